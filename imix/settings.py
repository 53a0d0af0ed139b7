"""The schema of params.yaml, how its layers merge, and the files that hand each stage what is its own.

Unknown keys, wrong types and impossible values are refused with file, key, value and what is allowed. A
training's settings are merged from four layers, later ones winning:

    pretrain  <-  method.<method>  <-  recipe.<dataset>  <-  cell.<dataset>.<method>.<mix>

Only `load` reads params.yaml. `write` resolves the grid into one small file per stage (`read`): a stage depends on
its own file, so that it runs again when, and only when, a setting that it uses has changed.
"""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError, model_validator

from imix.errors import UserError
from imix.files import write_json

Archive = Literal["cifar10", "cifar100", "speech_commands", "covtype"]
Contrastive = Literal["npair", "moco", "byol"]
Method = Literal[Contrastive, "supervised"]
Mix = Literal["none", "imix", "icutmix"]
Head = Literal["linear", "mlp", "mlpbn", "mlpbn1"]
NAME = r"^[a-z][a-z0-9_]*$"
Name = Annotated[str, Field(pattern=NAME)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
Model = TypeVar("Model", bound=BaseModel)
Range = Annotated[list[Positive], Field(min_length=2, max_length=2)]
# official: the checksum that this project carries; null: none, with a warning
Checksum = Annotated[str, Field(pattern=r"^(official|sha256:[0-9a-f]{64}|md5:[0-9a-f]{32})$")] | None


class Strict(BaseModel):
    """No unknown keys, no guessing of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Grid(Strict):
    """What runs: every data set with every method, mix and seed; ``name`` is its folder in reports/.

    Beside them stand the baselines: raw inputs, an untrained encoder, and one trained with labels (`SUPERVISED`).
    """

    name: Name
    datasets: Annotated[list[Name], Field(min_length=1)]
    methods: Annotated[list[Contrastive], Field(min_length=1)]
    mixes: Annotated[list[Mix], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)]

    @model_validator(mode="after")
    def _no_duplicates(self) -> "Grid":
        for axis, values in self:
            if isinstance(values, list) and len(set(values)) < len(values):
                raise ValueError(f"{axis} {values} names a value twice")
        return self


class PackageSource(Strict):
    """A file that a package on the index carries; nothing to set."""

    name: Literal["mnist", "segment"]


class SpokenSource(Strict):
    """Words synthesised by eSpeak NG."""

    name: Literal["spoken"]
    seed: Seed  # of the choice of voices, rates and pitches
    voices: Annotated[dict[Literal["train", "validation", "test"], Count], Field(min_length=3)]  # speakers per split, disjoint
    words: Annotated[int, Field(ge=10)]  # per voice; the ten commands first, then unknown words


class ArchiveSource(Strict):
    """An archive of the paper's, from its official address or a mirror; `sources` says which checksum it must have."""

    name: Archive


class VerifiedSource(ArchiveSource):
    """An archive with the rule that its bytes are held against."""

    checksum: Checksum


class DrawnRows(Strict):
    """A seeded, stratified choice of rows out of one table."""

    train: Count  # validation rows included
    validation: OpenFraction  # share of the training rows that choices are made on
    test: Count
    seed: Seed


class PlacedRows(DrawnRows):
    """The same, each image at a random place of a larger one."""

    canvas: Count  # pixels a side


class SplitRows(Strict):
    """A seeded, stratified choice out of the source's own training and test rows."""

    train: Count | None  # validation rows included; null for all
    validation: OpenFraction  # share of the training rows that choices are made on
    test: Count | None
    seed: Seed


class StandardisedRows(SplitRows):
    """The same, with a choice of the rows that means and deviations are taken from."""

    standardise: Literal["train", "all"]  # all: test rows too, as published, which leaks them


class SpokenRows(Strict):
    """The splits are the voices'."""

    silence: Annotated[float, Field(ge=0, lt=1)]  # share of all-zero clips among training and validation rows; none in test


class CommandRows(SpokenRows):
    """A seeded, stratified choice out of the source's own three splits; null for all of one."""

    train: Count | None  # clips, before silence is added
    validation: Count | None
    test: Count | None
    seed: Seed


ROWS: dict[str, type[Strict]] = {
    "mnist": PlacedRows,
    "segment": DrawnRows,
    "spoken": SpokenRows,
    "cifar10": SplitRows,
    "cifar100": SplitRows,
    "speech_commands": CommandRows,
    "covtype": StandardisedRows,
}


class Source(RootModel[Annotated[PackageSource | SpokenSource | VerifiedSource, Field(discriminator="name")]]):
    """Any source, resolved."""


class Data(Strict):
    """Where a data set's rows come from, and which are taken; ``rows`` is checked by the source's class in `ROWS`."""

    source: Annotated[PackageSource | SpokenSource | ArchiveSource, Field(discriminator="name")]
    rows: dict[str, Any]


class ResNetEncoder(Strict):
    """A residual network with the CIFAR stem (3x3, no max-pool)."""

    kind: Literal["resnet"]
    depth: Literal[10, 18, 34, 50, 101, 152]
    width: Count  # channels of the first stage; 64 is the standard
    stem_stride: Literal[1, 2]


class MLPEncoder(Strict):
    """The tabular network: column groups, four wide layers, maxout."""

    kind: Literal["mlp"]
    width: Positive  # multiplies the five wide layers; 1 is the paper's 62 million parameters


class ImageViews(Strict):
    """Crop-resize, colour jitter, grey, flip; images only. The probe's own augmentation is in `probe`."""

    kind: Literal["image"]
    scale: Range  # of the crop's area
    jitter: Annotated[list[NonNegative], Field(min_length=4, max_length=4)]  # brightness, contrast, saturation, hue
    jitter_probability: Fraction
    grey_probability: Fraction
    flip_probability: Fraction

    @model_validator(mode="after")
    def _possible(self) -> "ImageViews":
        if not self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale {self.scale} must rise and end at 1 or less")
        if max(self.jitter[:3]) > 1 or self.jitter[3] > 0.5:
            raise ValueError(f"jitter {self.jitter} must be at most [1, 1, 1, 0.5]")
        return self


class SpeechViews(Strict):
    """The six transforms on waveform and STFT, each applied with ``probability``."""

    kind: Literal["speech"]
    probability: Fraction
    amplitude: Range
    speed: Annotated[float, Field(ge=0, lt=1)]
    stretch: Annotated[float, Field(ge=0, lt=1)]
    shift: Annotated[int, Field(ge=0)]  # frames
    noise: Fraction  # the largest share of background


class TabularViews(Strict):
    """Masking of the numbers, one probability per view."""

    kind: Literal["tabular"]
    masking: Annotated[list[Fraction], Field(min_length=2, max_length=2)]


class Domain(Strict):
    """How a data set's rows are seen: all that an untrained encoder needs."""

    encoder: Annotated[ResNetEncoder | MLPEncoder, Field(discriminator="kind")]
    views: Annotated[ImageViews | SpeechViews | TabularViews, Field(discriminator="kind")]


class Pretraining(Domain):
    """Everything one training depends on, after merging."""

    mix: Mix
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    groups: Count  # blocks of the batch that stand for processors: partners, BatchNorm and contrast set stay inside one
    learning_rate: Positive  # per 256 items of batch
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: NonNegative
    warmup_epochs: Annotated[int, Field(ge=0)]
    schedule: Literal["cosine", "step"]
    milestones: list[Count]  # epochs at which the step schedule multiplies the rate by 0.1; [] for cosine
    embedding: Count
    projection: Head
    precision: Literal["float32", "bfloat16"]
    inputmix: Annotated[int, Field(ge=0)]  # further inputs mixed into each, labels unchanged; 0 = off
    knn_every: Count  # epochs between two kNN figures on the validation rows
    fraction: Annotated[float, Field(gt=0, le=1)]  # of the training rows, classes in proportion, that are trained on
    augment: bool  # false: both views are the clean rows
    shared_lam: bool  # true: one lam per batch; false, as published: one per item
    mix_inputs: Literal["first", "both", "neither"]  # which views are mixed; the paper mixes the first, the others are controls
    mix_depth: Literal["input", "hidden"]  # hidden: before a block of the encoder, drawn anew for every batch
    mix_labels: bool  # false: inputs mixed, labels not; a control
    symmetric: bool  # the loss averaged over both directions, each view the anchor once
    alpha: Positive | None = None  # of Beta(alpha, alpha); cells that mix have one, plain cells none

    @model_validator(mode="after")
    def _consistent(self) -> "Pretraining":
        if self.batch_size % self.groups or self.batch_size // self.groups < 2:
            raise ValueError(f"groups {self.groups} must divide batch_size {self.batch_size} into blocks of two or more")
        if self.mix_inputs == "neither" and not self.mix_labels:
            raise ValueError("mix_inputs is 'neither' and mix_labels false: that is mix 'none'")
        if self.mix_inputs == "both" and self.mix == "icutmix":
            raise ValueError("mix_inputs must not be 'both' with CutMix: its box is drawn for one view")
        if self.mix_depth == "hidden" and (self.mix_inputs != "first" or not self.mix_labels or self.mix == "icutmix"):
            raise ValueError("mix_depth 'hidden' goes with mix_inputs 'first' and mix_labels true, and not with CutMix")
        if self.milestones and max(self.milestones) >= self.epochs:
            raise ValueError(f"milestones {self.milestones} must lie below epochs {self.epochs}")
        if (self.schedule == "step") != bool(self.milestones):
            raise ValueError(f"milestones {self.milestones} go with schedule 'step', and only with it")
        if self.warmup_epochs >= self.epochs and self.warmup_epochs > 0:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} must be below epochs {self.epochs}")
        return self


class NPairPretraining(Pretraining):
    """N-pair's own settings."""

    temperature: Positive


class MoCoPretraining(Pretraining):
    """MoCo v2's own settings."""

    temperature: Positive
    ema: Annotated[float, Field(ge=0, lt=1)]
    queue: Count
    contrast: Literal["own", "batch"]  # own: 1 + K logits; batch: N + K

    @model_validator(mode="after")
    def _one_direction(self) -> "MoCoPretraining":
        if self.symmetric:
            raise ValueError("symmetric must be false: the second direction would meet the first one's keys in the queue, as negatives")
        return self


class BYOLPretraining(Pretraining):
    """BYOL's own settings."""

    ema: Annotated[float, Field(ge=0, lt=1)]
    predictor: Head


class SupervisedPretraining(Pretraining):
    """Training with labels, for comparison; its linear classifier takes the place of the projection."""

    @model_validator(mode="after")
    def _one_view(self) -> "SupervisedPretraining":
        if self.symmetric or self.mix_inputs == "both":
            raise ValueError("symmetric must be false and mix_inputs not 'both': training with labels has one view")
        return self


PRETRAINING: dict[str, type[Pretraining]] = {
    "npair": NPairPretraining,
    "moco": MoCoPretraining,
    "byol": BYOLPretraining,
    "supervised": SupervisedPretraining,
}


class Probe(Strict):
    """Linear evaluation and kNN on frozen features."""

    rates: Annotated[list[Positive], Field(min_length=1)]  # learning rates, each x batch_size / 256
    epochs: Count
    batch_size: Count
    momentum: Annotated[float, Field(ge=0, lt=1)]
    milestones: list[Count]  # epochs at which the rate is multiplied by 0.2
    copies: Annotated[int, Field(ge=0)]  # augmented copies of the training rows (pad 4, crop, flip); 0 = the clean rows
    flip: bool  # whether those copies are flipped
    neighbours: Count  # k of the kNN
    seed: Seed  # plus the training's seed: initial weights and order of the rows


class Ablation(Strict):
    """One question, asked of any data set: the same trainings with something changed."""

    question: str
    methods: Annotated[list[Method], Field(min_length=1)]
    mixes: Annotated[list[Mix], Field(min_length=1)]
    axis: Literal["parameters", "rows", "epochs", "alpha"] | None = None  # what the values differ in, if it is a number
    values: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]  # changes to a cell; "x0.5" multiplies what was there


class Ablations(Strict):
    """Which ablations run, on which data sets of the grid, with which seeds."""

    run: list[Name]
    datasets: list[Name]
    seeds: list[Seed]

    @model_validator(mode="after")
    def _possible(self) -> "Ablations":
        for axis, values in self:
            if len(set(values)) < len(values):
                raise ValueError(f"{axis} {values} names a value twice")
        if self.run and not (self.datasets and self.seeds):
            raise ValueError("run names ablations, but datasets or seeds are empty; let run be [] for none")
        return self


class Pair(Strict):
    """Two data sets of the grid and of one domain."""

    pretrained_on: Name
    probed_on: Name


class Transfer(Strict):
    """Encoders of the grid that are also probed on other data sets of it."""

    pairs: list[Pair]


class Projection(Strict):
    """Data sets of the grid whose test features are drawn in two dimensions (t-SNE), from the grid's first seed."""

    datasets: list[Name]
    rows: Annotated[int, Field(ge=50)]  # about so many test rows
    perplexity: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    seed: Seed

    @model_validator(mode="after")
    def _possible(self) -> "Projection":
        if 3 * self.perplexity > self.rows:
            raise ValueError(f"perplexity {self.perplexity} must be at most a third of rows {self.rows}")
        return self


class Variant(Strict):
    """One training of an ablation, resolved."""

    method: Method
    mix: Mix
    value: Name
    settings: dict[str, Any]

    def pretraining(self) -> Pretraining:
        """The settings, as their method's class."""
        return PRETRAINING[self.method].model_validate(self.settings)


class Variants(Strict):
    """All trainings of an ablation on one data set."""

    question: str
    axis: str | None
    variants: list[Variant]


class Verification(Strict):
    """What an archive's bytes are held against."""

    checksum: Checksum


SUPERVISED = ("supervised", "none")  # the cell that is always trained: what contrastive training is judged against

# folders of data/ that are no data set's
RESERVED = ("ablations", "archives", "code", "encoders", "metrics", "settings")


class Params(Strict):
    """The whole of params.yaml."""

    grid: Grid
    sources: dict[Archive, Verification]
    data: dict[Name, Data]
    pretrain: dict[str, Any]
    method: dict[Method, dict[str, Any]]
    recipe: dict[Name, dict[str, Any]]
    cell: dict[Name, dict[Method, dict[Mix, dict[str, Any]]]]
    probe: dict[Name, Probe]
    transfer: Transfer
    projection: Projection
    ablations: Ablations
    ablation: dict[Name, Ablation]


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key written twice and reads 1e-5 as a number, as DVC (YAML 1.2) does."""


def _unique_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]  # type: ignore[no-untyped-call]
    for key in keys:
        if keys.count(key) > 1:
            raise UserError(f"{loader.name}: line {node.start_mark.line + 1}: the key {key!r} stands twice")
    return loader.construct_mapping(node, deep=True)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789"))
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def load(path: Path = Path("params.yaml"), changes: Mapping[str, str] = MappingProxyType({})) -> Params:
    """Read and check params.yaml, every cell of it, before any work.

    Args:
        changes: YAML in place of what stands there, as ``dvc exp run -S`` takes it: {"grid.seeds": "[0]"}.

    Raises:
        UserError: naming file, key, value and what is allowed.
    """
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        loader.name = str(path)
        raw = loader.get_single_data()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path}: must be a mapping with the keys {', '.join(Params.model_fields)}")
    for key, value in changes.items():
        *blocks, last = key.split(".")
        block: Any = raw
        for depth, name in enumerate(blocks):
            block = entry(block, name, f"{path}: {'.'.join(blocks[:depth]) or 'top level'}")
            if not isinstance(block, dict):
                raise UserError(f"{path}: {key}: {'.'.join(blocks[: depth + 1])} is a value, not a block")
        try:
            block[last] = yaml.load(value, _Loader)
        except yaml.YAMLError as error:
            raise UserError(f"{key}={value}: not YAML: {' '.join(str(error).split())}") from None
    params = _validated(Params, raw, str(path))
    for dataset in params.data:
        if dataset in RESERVED:
            raise UserError(f"{path}: data.{dataset}: data/{dataset} holds other things; take another name")
        data(params, dataset, path)
    for dataset, methods in params.cell.items():
        for method, mixes in methods.items():
            for mix in mixes:
                resolve(params, dataset, method, mix, path)
    _check_grid(params, path)
    return params


def data(params: Params, dataset: str, path: Path = Path("params.yaml")) -> tuple[Strict, Strict]:
    """The source of a data set, with the checksum rule of an archive, and the choice of its rows.

    Raises:
        UserError: naming the key, the value and what is allowed.
    """
    block = entry(params.data, dataset, f"{path}: data")
    source: Strict = block.source
    if isinstance(source, ArchiveSource):
        source = VerifiedSource(name=source.name, checksum=entry(params.sources, source.name, f"{path}: sources").checksum)
    return source, _validated(ROWS[block.source.name], block.rows, str(path), whole=f"data.{dataset}.rows")


def resolve(
    params: Params, dataset: str, method: str, mix: str, path: Path = Path("params.yaml"), change: tuple[str, Mapping[str, Any]] = ("", {})
) -> Pretraining:
    """Merge the four layers of one cell, and on top of them an ablation's ``change`` (its name, what it sets), and check the result.

    Raises:
        UserError: naming the layer that holds the offending key, the value and what is allowed.
    """
    layers: dict[str, Mapping[str, Any]] = {
        "pretrain": params.pretrain,
        f"method.{method}": entry(params.method, method, f"{path}: method"),  # type: ignore[arg-type]
        f"recipe.{dataset}": entry(params.recipe, dataset, f"{path}: recipe"),
        f"cell.{dataset}.{method}.{mix}": entry(
            entry(entry(params.cell, dataset, f"{path}: cell"), method, f"{path}: cell.{dataset}"),  # type: ignore[arg-type]
            mix,
            f"{path}: cell.{dataset}.{method}",
        ),  # type: ignore[arg-type]
    }
    merged: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for name, layer in layers.items():
        merged |= layer
        origin |= dict.fromkeys(layer, name)
    merged = _changed(merged, change[1], f"{path}: {change[0]}")
    origin |= dict.fromkeys(change[1], change[0])
    cell = f"cell.{dataset}.{method}.{mix}"
    if "mix" in merged:
        raise UserError(f"{path}: {origin['mix']}.mix: unknown key; the cell's own name says how it mixes")
    settings = _validated(PRETRAINING[method], merged | {"mix": mix}, str(path), origin, cell)
    if (mix == "none") != (settings.alpha is None):
        wrong = "belongs to mixing cells only" if mix == "none" else "is missing: any positive number"
        raise UserError(f"{path}: {cell}.alpha {wrong}")
    if mix == "icutmix" and settings.views.kind != "image":
        raise UserError(f"{path}: {cell}: CutMix cuts images; {dataset} has {settings.views.kind} views")
    if (settings.encoder.kind == "mlp") != (settings.views.kind == "tabular"):
        raise UserError(
            f"{path}: recipe.{dataset}.encoder.kind = {settings.encoder.kind!r} does not fit views.kind = "
            f"{settings.views.kind!r}: 'mlp' goes with 'tabular', 'resnet' with the others"
        )
    return settings


def _changed(block: Mapping[str, Any], change: Mapping[str, Any], where: str) -> dict[str, Any]:
    """``block`` with some values replaced; those of nested blocks one by one; "x2" doubles a number."""
    result = dict(block)
    for key, value in change.items():
        old = block.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            value = _changed(old, value, f"{where}.{key}")
        elif isinstance(value, str) and re.fullmatch(r"x\d+(\.\d+)?", value):
            if isinstance(old, bool) or not isinstance(old, int | float):
                raise UserError(f"{where}.{key} = {value!r}: there is no number to multiply")
            scaled = round(old * float(value[1:]), 12)
            if isinstance(old, int):
                scaled = max(1, round(scaled))
            if scaled == old and float(value[1:]) != 1:
                raise UserError(f"{where}.{key} = {value!r}: leaves {old} as it is")
            value = scaled
        result[key] = value
    return result


def variants(params: Params, name: str, dataset: str, path: Path = Path("params.yaml")) -> Variants:
    """All trainings of one ablation on one data set.

    Raises:
        UserError: no such ablation, or a change that its cells cannot have.
    """
    ablation: Ablation = entry(params.ablation, name, f"{path}: ablation")
    return Variants(
        question=ablation.question,
        axis=ablation.axis,
        variants=[
            Variant(
                method=method,
                mix=mix,
                value=value,
                settings=resolve(params, dataset, method, mix, path, (f"ablation.{name}.values.{value}", change)).model_dump(),
            )
            for value, change in ablation.values.items()
            for method in ablation.methods
            for mix in ablation.mixes
        ],
    )


def domain(params: Params, dataset: str, path: Path = Path("params.yaml")) -> Domain:
    """The encoder and views of a data set's recipe, for the baselines."""
    recipe = entry(params.recipe, dataset, f"{path}: recipe")
    chosen = {key: recipe[key] for key in ("encoder", "views") if key in recipe}
    return _validated(Domain, chosen, str(path), dict.fromkeys(("encoder", "views"), f"recipe.{dataset}"), f"recipe.{dataset}")


def cells(grid: Grid) -> list[tuple[str, str]]:
    """Method and mix of every training that a data set of the grid gets."""
    return [*((method, mix) for method in grid.methods for mix in grid.mixes), SUPERVISED]


def _check_grid(params: Params, path: Path) -> None:
    for dataset in params.grid.datasets:
        for block in ("data", "recipe", "cell", "probe"):
            entry(getattr(params, block), dataset, f"{path}: grid.datasets: {block}")
        if domain(params, dataset, path).views.kind != "image" and params.probe[dataset].copies:
            raise UserError(f"{path}: probe.{dataset}.copies = {params.probe[dataset].copies}: must be 0: only images are augmented")
        for method, mix in cells(params.grid):
            resolve(params, dataset, method, mix, path)
    _check_transfer(params, path)
    for name in params.ablations.run:
        for dataset in params.ablations.datasets:
            if dataset not in params.grid.datasets:
                raise UserError(
                    f"{path}: ablations.datasets: {dataset!r} is not in grid.datasets; change either, or let ablations.run be []"
                )
            variants(params, name, dataset, path)
    if ABLATIONS.name in params.ablation:
        raise UserError(f"{path}: ablation.{ABLATIONS.name}: {ABLATIONS} holds other things; take another name")


def _check_transfer(params: Params, path: Path) -> None:
    """Refuse what would fail only after all trainings."""
    grid = dict.fromkeys(params.grid.datasets)
    for dataset in params.projection.datasets:
        entry(grid, dataset, f"{path}: projection.datasets: grid.datasets")
    for name, datasets in (("projection.datasets", params.projection.datasets), ("transfer.pairs", params.transfer.pairs)):
        if any(datasets.count(dataset) > 1 for dataset in datasets):
            raise UserError(f"{path}: {name}: one stands twice")
    for number, pair in enumerate(params.transfer.pairs):
        datasets = (pair.pretrained_on, pair.probed_on)
        for dataset in datasets:
            entry(grid, dataset, f"{path}: transfer.pairs.{number}: grid.datasets")
        if datasets[0] == datasets[1]:
            raise UserError(f"{path}: transfer.pairs.{number}: {datasets[0]} to itself is no transfer")
        seen = [(domain(params, dataset, path).views.kind, params.data[dataset].source.name == "mnist") for dataset in datasets]
        if seen[0] != seen[1] or seen[0][0] == "tabular":
            raise UserError(
                f"{path}: transfer.pairs.{number}: {datasets[0]} to {datasets[1]}: must both be speech, colour images or digits"
            )


def entry(block: Mapping[str, Any], key: str, where: str) -> Any:
    """``block[key]``.

    Raises:
        UserError: no such key; with the nearest one, and all.
    """
    if key not in block:
        near = difflib.get_close_matches(key, block, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise UserError(f"{where}: no entry {key!r}{hint}; there are: {', '.join(sorted(block)) or 'none'}")
    return block[key]


def _validated(model: type[Model], raw: Mapping[str, Any], file: str, origin: Mapping[str, str] | None = None, whole: str = "") -> Model:
    """Validate; of several errors the first is told, in one line."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    keys = [str(key) for key in first["loc"] if key not in ("resnet", "mlp", "image", "speech", "tabular", "[key]")]
    prefix = (origin or {}).get(keys[0], whole) if keys else whole
    key = ".".join(filter(None, [prefix, *keys]))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        known = list(model.model_fields) if len(keys) == 1 else []
        near = difflib.get_close_matches(keys[-1], known, 1)
        message = "unknown key" + (f"; did you mean {near[0]!r}?" if near else "") + (f"; allowed: {', '.join(known)}" if known else "")
    elif first["type"] == "missing":
        message = "is missing"
    value = f" = {first['input']!r}" if first["type"] not in ("missing", "value_error") else ""
    raise UserError(f"{file}: {key}{value}: {message}") from None


FOLDER = Path("data/settings")
ABLATIONS = Path("data/ablations/settings")  # beside the results, so that a report depends on one folder, which is always there


def write(params: Params, folder: Path = FOLDER, ablations: Path = ABLATIONS) -> None:
    """Write the resolved settings of everything in the grid and of its ablations, one file per stage, where `read` looks for them."""
    grid = params.grid
    write_json(folder / "grid.json", grid.model_dump())
    for dataset in grid.datasets:
        source, rows = data(params, dataset)
        files: dict[str, Strict] = {"source": source, "rows": rows, "domain": domain(params, dataset), "probe": params.probe[dataset]}
        files |= {f"{method}/{mix}": resolve(params, dataset, method, mix) for method, mix in cells(grid)}
        for name, settings in files.items():
            write_json(folder / dataset / f"{name}.json", settings.model_dump())
    for name in params.ablations.run:
        for dataset in params.ablations.datasets:
            write_json(ablations / name / f"{dataset}.json", variants(params, name, dataset).model_dump())
    write_json(folder / "transfer.json", params.transfer.model_dump())
    write_json(folder / "projection.json", params.projection.model_dump())
    write_json(ablations / "asked.json", params.ablations.model_dump())


def read(model: type[Model], *name: str, folder: Path = FOLDER) -> Model:
    """Read what `write` wrote: ``read(Probe, "mnist", "probe")``.

    Raises:
        UserError: no such file, or one that `write` did not write.
    """
    path = folder.joinpath(*name).with_suffix(".json")
    try:
        return model.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = "not there" if isinstance(error, OSError) else str(error).splitlines()[0]
        raise UserError(
            f"{path}: {reason}; `python -m stages.settings` writes the settings of everything that params.yaml's grid names"
        ) from None
