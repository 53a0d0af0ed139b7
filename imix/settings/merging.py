"""Merge the layers of params.yaml into the settings of one cell, one evaluation, one ablation.

``defaults`` and each ``recipe.<dataset>`` are layers. A layer holds settings and, under the name of
an augmentation, a method or a mix (a selector), further layers for those cells only, nested in any
order: ``recipe.mnist.clean.moco.imix.temperature`` is for one cell, and ``defaults.moco.none`` for
MoCo without mixing (mix "none") on all data sets.

Where several layers give a key, the winner is, in this order:

1. the recipe over the defaults; a recipe over the one that it is ``like``
2. the layer with more selectors over the one with fewer
3. with equally many, the mix over the method over the augmentation

Blocks merge key by key, lists are replaced. ``like: <dataset>`` starts from another recipe, or data
block. A setting that only some methods have may be given to all; the others leave it out.
"""

import re
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, get_args

import torch
from pydantic import create_model

from imix import domains, plugins
from imix.errors import UserError
from imix.evaluation import Probe
from imix.methods.base import NOT_MIXED, Augmentation, Mix, Settings
from imix.own import OwnSource, signature
from imix.paths import Cell
from imix.scaling import scaled_to
from imix.schema import Strict, entry, shown, validated
from imix.settings.study import Params
from imix.sources import Form

PARAMS = Path("params.yaml")
# base recipes for a user's own data (``like: table``), with their domains; `own` is common to all
BASES = {"own": "", "table": "tabular", "image": "image", "audio": "speech"}
Block = dict[str, Any]


class Merged:
    """Settings that layers are merged into; ``origin`` has the layer that each key came from."""

    def __init__(self) -> None:
        self.settings: Block = {}
        self.origin: dict[str, str] = {}  # by dotted key

    def add(self, layer: Mapping[str, Any], name: str) -> None:
        """Merge a layer; what it gives wins."""
        _merge(self.settings, layer, name, self.origin, "")


def _merge(into: Block, layer: Mapping[str, Any], name: str, origin: dict[str, str], path: str) -> None:
    for key, value in layer.items():
        place = f"{path}{key}"
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value, name, origin, f"{place}.")
        else:
            into[key] = _multiplied(into.get(key), value, name, place) if is_factor(value) else deepcopy(value)
            origin[place] = name


def is_factor(value: Any) -> bool:
    """Whether a value of an ablation multiplies the cell's own, as "x2" does."""
    return isinstance(value, str) and bool(re.fullmatch(r"x\d+(\.\d+)?", value))


def _multiplied(old: Any, factor: str, name: str, place: str) -> Any:
    """Multiply a number, or every number of a list: "x2" doubles it.

    Whole numbers stay whole, and positive ones positive.
    """
    numbers, by, where = old if isinstance(old, list) else [old], float(factor[1:]), f"{name}.{place} = {factor!r}"
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        raise UserError(f"{PARAMS}: {where}: there is no number to multiply")
    if not by:
        raise UserError(f"{PARAMS}: {where}: must multiply by more than 0")

    def times(number: float) -> float:
        product = round(number * by, 12)
        return max(min(1, number), round(product)) if isinstance(number, int) else product

    products = [times(number) for number in numbers]
    if products == numbers and any(numbers) and by != 1:
        raise UserError(f"{PARAMS}: {where}: leaves {shown(old)} as it is")
    return products if isinstance(old, list) else products[0]


@cache
def axes() -> tuple[frozenset[str], ...]:
    """Return the keys that select cells: augmentations, methods and mixes."""
    return frozenset(get_args(Augmentation)), frozenset(plugins.names("methods")), frozenset(get_args(Mix))


@cache
def selectors() -> frozenset[str]:
    """Return all keys that select cells."""
    return frozenset().union(*axes())


def selected(layer: Mapping[str, Any], cell: Cell, name: str) -> list[tuple[str, Block]]:
    """Return the parts of a layer that a cell uses, with their dotted names, the weakest first."""
    # ``path`` has a bit for each selector on the way to a block: 1 augmentation, 2 method, 4 mix.
    # More bits are stronger; of equally many, the greater number is: the mix has the greatest bit.
    found, left = [], [(0, name, layer)]
    while left:
        path, where, block = left.pop()
        found.append((path, where, {key: value for key, value in block.items() if key not in selectors()}))
        left += [(path | 1 << bit, f"{where}.{key}", block[key]) for bit, key in enumerate(cell[1:]) if key in block]
    found.sort(key=lambda part: (part[0].bit_count(), part[0]))
    return [(where, block) for _, where, block in found]


def expanded(blocks: Mapping[str, Block], name: str, where: str, path: tuple[str, ...] = ()) -> list[tuple[str, Block]]:
    """Return a block and every block that it is ``like``, the most general first, with their names.

    Raises:
        UserError: no such block, or a circle of them.
    """
    block = entry(blocks, name, f"{PARAMS}: {where}")
    if name in path:
        raise UserError(f"{PARAMS}: {where}.{name}.like: {' -> '.join((*path, name))} is a circle; break it")
    own = [(f"{where}.{name}", {key: value for key, value in block.items() if key != "like"})]
    if "like" not in block:
        return own
    entry(blocks, block["like"], f"{PARAMS}: {where}.{name}.like")
    return expanded(blocks, block["like"], where, (*path, name)) + own


class Data(NamedTuple):
    """A data set's source, its choice of rows, and what is known before they are fetched."""

    module: ModuleType
    source: Strict
    rows: Strict
    form: Form


def data(params: Params, dataset: str) -> Data:
    """Return the source and the choice of rows of a data set, and what they give.

    Raises:
        UserError: naming the key, the value and what is allowed.
    """
    module, source, rows = source_and_rows(params, dataset)
    try:
        return Data(module, source, rows, _form(module, source, rows))
    except ValueError as error:
        raise UserError(f"{PARAMS}: data.{dataset}.{error}") from None


def _form(module: ModuleType, source: Strict, rows: Strict) -> Form:
    if not isinstance(source, OwnSource):
        return module.form(source, rows)
    return _own_form(module, source.model_dump_json(), rows.model_dump_json(), signature(module.files(source)))


@cache  # every cell needs it, and reading a large table takes seconds
def _own_form(module: ModuleType, source: str, rows: str, files: Any) -> Form:
    return module.form(module.Source.model_validate_json(source), module.Rows.model_validate_json(rows))


def is_own(params: Params, dataset: str) -> bool:
    """Whether a data set's files are the user's own.

    They need not be there while no cell uses them.
    """
    return isinstance(source_and_rows(params, dataset)[1], OwnSource)


def source_and_rows(params: Params, dataset: str) -> tuple[ModuleType, Strict, Strict]:
    """Return the module, the source and the choice of rows of a data set; read none of its files.

    Raises:
        UserError: naming the key, the value and what is allowed.
    """
    merged, where = Merged(), f"data.{dataset}"
    for name, block in expanded(params.data, dataset, "data"):
        merged.add(block, name)
    if unknown := set(merged.settings) - {"source", "rows"}:
        raise UserError(f"{PARAMS}: {where}.{min(unknown)}: unknown key; allowed: source, rows, like")
    source = _block(merged.settings, "source", where)
    if "name" not in source:
        known = ", ".join(plugins.names("datasets"))
        raise UserError(f"{PARAMS}: {where}.source.name: is missing; must be one of {known}")
    module = plugins.find("datasets", source["name"], f"{PARAMS}: {where}.source.name")
    needed = any(field.is_required() for field in module.Rows.model_fields.values())
    rows = _block(merged.settings if needed else {"rows": {}} | merged.settings, "rows", where)
    plugins.find("views", module.KIND, f"imix/datasets/{source['name']}.py: KIND")
    checked = [
        validated(model, block, str(PARAMS), whole=f"{where}.{key}")
        for key, model, block in (("source", module.Source, source), ("rows", module.Rows, rows))
    ]
    if isinstance(checked[0], OwnSource) and checked[0].folder is None:
        checked[0] = checked[0].model_copy(update={"folder": dataset})
    return module, checked[0], checked[1]


def _block(settings: Block, key: str, where: str) -> Block:
    if not isinstance(settings.get(key), dict):
        raise UserError(f"{PARAMS}: {where}.{key}: is missing; must be a block of keys")
    return settings[key]


def _layers(params: Params, dataset: str) -> list[tuple[str, Block]]:
    return [("defaults", params.defaults), *expanded(params.recipe, dataset, "recipe")]


def layered(params: Params, cell: Cell) -> Merged:
    """Return a cell's merged layers, as params.yaml has them, and the layer of each key."""
    merged = Merged()
    for name, layer in _layers(params, cell.dataset):
        for part_name, part in selected(layer, cell, name):
            # the probe is one for all cells of a data set: `evaluation_settings`
            merged.add({key: value for key, value in part.items() if key != "probe"}, part_name)
    return merged


def resolve(params: Params, cell: Cell, change: tuple[str, Mapping[str, Any]] = ("", {})) -> Settings:
    """Merge the layers of one cell, add an ablation's change on top, and check the result.

    Args:
        change: the name of an ablation's value, and the settings that it changes.

    Raises:
        UserError: naming the layer that holds the offending key, the value and what is allowed.
    """
    merged, found = layered(params, cell), data(params, cell.dataset)
    merged.settings |= scaled_to(_training_rows(found.form, cell), merged.settings)
    merged.add(change[1], change[0])
    model, settings = domains.training_class(cell.method, found.module.KIND), merged.settings
    for key in (set(settings) & _method_keys()) - set(model.model_fields):
        del settings[key]  # a setting of other methods, given to all
    if cell.mix == "none":
        # plain training does not use these: cells that differ in them alone are one training
        settings |= {"alpha": None, **NOT_MIXED}
    for key in ("mix", "augmentation"):
        if key in settings:
            raise UserError(f"{PARAMS}: {merged.origin[key]}.{key}: unknown key; a cell's own name says it")
    settings |= {"augmentation": cell.augmentation, "mix": cell.mix}
    whole = ".".join(("recipe", *cell))
    checked = validated(model, settings, str(PARAMS), merged.origin, whole)
    if cell.augmentation == "clean":  # a change of views makes no clean cell stale
        checked = checked.model_copy(update={"views": plugins.find("views", found.module.KIND).NEUTRAL})
    _check_batch(cell, found.form, checked, merged.origin["batch_size"])
    if cell.dataset in params.grid.datasets:  # building a large network takes a tenth of a second
        _check_encoder(found, checked.encoder, merged.origin, whole)
    return checked


@cache
def _method_keys() -> frozenset[str]:
    """Return the keys of the settings of all methods together."""
    return frozenset(
        key for name in plugins.names("methods") for key in plugins.find("methods", name).Settings.model_fields
    )


def _training_rows(form: Form, cell: Cell) -> int:
    """Return how many rows a cell trains on."""
    return form.fit if cell.method == "supervised" else form.train + form.unlabelled


def _check_batch(cell: Cell, form: Form, settings: Settings, layer: str) -> None:
    """Refuse a batch larger than the training rows."""
    count = _training_rows(form, cell)
    count = min(count, int(count * settings.fraction) + form.classes)  # a share of each class, rounded up
    if form.exact and settings.batch_size > count:
        raise UserError(
            f"{PARAMS}: {layer}.batch_size = {settings.batch_size}: must be at most the {count} "
            f"training rows of {cell.dataset}"
        )


def _check_encoder(found: Data, encoder: Strict, origin: Mapping[str, str], whole: str) -> None:
    """Refuse an encoder of a single feature.

    Normalised, it is 1 or -1 for every row, and metrics need two.
    """
    kind, form = found.module.KIND, found.form
    if (count := _features(kind, encoder.model_dump_json(), form.shape, form.column_groups)) < 2:
        layer = next((layer for key, layer in origin.items() if key.startswith("encoder.")), origin["encoder"])
        raise UserError(
            f"{PARAMS}: {layer}.encoder = {encoder.model_dump()}: makes {count} feature for {whole}; "
            "must make 2 or more: take a larger width"
        )


@cache
def _features(kind: str, encoder: str, shape: tuple[int, ...], column_groups: tuple[int, ...]) -> int:
    """Return how many features an encoder has.

    On torch's meta device, networks of any size cost nothing.
    """
    views = plugins.find("views", kind)
    with torch.device("meta"):
        settings = views.Encoder.Settings.model_validate_json(encoder)
        return views.Encoder.make(settings, views.seen(shape), column_groups).features


def check_mixes(params: Params, dataset: str, mixes: list[str], where: str) -> None:
    """Refuse CutMix of rows that are not images; ``where`` names the list of mixes."""
    kind = data(params, dataset).module.KIND
    if "icutmix" in mixes and kind != "image":
        allowed = "must be none or imix, or leave the data set out"
        raise UserError(f"{PARAMS}: {where} = {mixes}: CutMix cuts images; {dataset} has {kind} rows: {allowed}")


def evaluation_settings(params: Params, dataset: str) -> Block:
    """Return how to evaluate a data set's encoders: kind, untrained encoder, views, probe.

    Raises:
        UserError: naming the key, the value and what is allowed.
    """
    merged, found = Merged(), data(params, dataset)
    for name, block in _layers(params, dataset):
        merged.add({key: block[key] for key in ("encoder", "views", "probe") if key in block}, name)
    kind, whole = found.module.KIND, f"recipe.{dataset}"
    settings = {"kind": kind, "probe": {}} | merged.settings
    checked = validated(_evaluation_class(kind), settings, str(PARAMS), merged.origin, whole)
    if dataset in params.grid.datasets:
        _check_encoder(found, checked.encoder, merged.origin, whole)
    if checked.probe.copies and kind != "image":
        layer = merged.origin.get("probe.copies", merged.origin["probe"])
        where = f"{layer}.probe.copies = {checked.probe.copies}"
        raise UserError(f"{PARAMS}: {where}: must be 0 for {dataset}: only images are augmented")
    return checked.model_dump()


@cache
def _evaluation_class(kind: str) -> Any:
    return create_model(f"{kind} evaluation", __base__=domains.domain_class(kind), probe=(Probe, ...))


def ablation_datasets(params: Params, name: str) -> list[str]:
    """Return the data sets of the grid that an ablation runs on."""
    entry(params.ablation, name, f"{PARAMS}: ablations.run: ablation")
    return [dataset for dataset in params.asked(name).datasets if dataset in params.grid.datasets]


def variants(params: Params, name: str, dataset: str) -> list[tuple[Cell, str, Settings]]:
    """Return all trainings of one ablation on one data set: cell, name of the value, settings.

    A value that sets ``augmentation: clean`` takes the settings of the clean cells.

    Raises:
        UserError: no such ablation, or a change that its cells cannot have.
    """
    ablation = params.asked(name)
    check_mixes(params, dataset, ablation.mixes, f"ablation.{name}.mixes")
    cells = [Cell(dataset, *rest) for rest in product(ablation.augmentation, ablation.methods, ablation.mixes)]
    return [
        (cell, value, _varied(params, cell, change, f"ablation.{name}.values.{value}"))
        for value, change in ablation.values.items()
        for cell in cells
    ]


def _varied(params: Params, cell: Cell, change: Block, where: str) -> Settings:
    """Return the settings of a cell with a change that an ablation makes; ``where`` names it."""
    augmentation = change.get("augmentation", cell.augmentation)
    if augmentation not in get_args(Augmentation):
        raise UserError(f"{PARAMS}: {where}.augmentation = {shown(augmentation)}: must be augmented or clean")
    others = {key: value for key, value in change.items() if key != "augmentation"}
    try:
        return resolve(params, cell._replace(augmentation=augmentation), (where, others))
    except UserError as error:  # it may name another key, which does not fit the change
        raise UserError(str(error) if where in str(error) else f"{error} (with {where})") from None
