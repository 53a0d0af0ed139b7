"""How layers become the settings of one cell, one evaluation, one ablation.

There is one kind of layer. ``defaults`` and each ``recipe.<dataset>`` hold settings and, under the name of an
augmentation, a method or a mix, layers for those cells only, nested in any order. What is later wins: the
recipe over the defaults, within each the deeper over the less deep, and at one depth mix over method over
augmentation. Blocks merge key by key, lists are replaced. ``like: <dataset>`` starts from another recipe (or
data block). A setting that only some methods have may be given to all; the others leave it out.
"""

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, get_args

from imix import domains, plugins
from imix.errors import UserError
from imix.evaluation import Probe
from imix.methods.base import Augmentation, Mix, Settings
from imix.paths import Cell
from imix.schema import Strict, entry, shown, validated
from imix.settings.study import Ablation, Params
from imix.sources import Form

PARAMS = Path("params.yaml")
Block = dict[str, Any]


class Merged:
    """Settings that layers are merged into, with the layer that each key came from."""

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
            into[key] = _scaled(into.get(key), value, name, place) if _is_factor(value) else deepcopy(value)
            origin[place] = name


def _is_factor(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"x\d+(\.\d+)?", value))


def _scaled(old: Any, factor: str, name: str, place: str) -> Any:
    """Multiply a number, or every number of a list: "x2" doubles it. Whole numbers stay whole, positive ones positive."""
    numbers, by, where = old if isinstance(old, list) else [old], float(factor[1:]), f"{name}.{place} = {factor!r}"
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        raise UserError(f"{PARAMS}: {where}: there is no number to multiply")
    if not by:
        raise UserError(f"{PARAMS}: {where}: must multiply by more than 0")

    def times(number: float) -> float:
        scaled = round(number * by, 12)
        return max(min(1, number), round(scaled)) if isinstance(number, int) else scaled

    scaled = [times(number) for number in numbers]
    if scaled == numbers and any(numbers) and by != 1:
        raise UserError(f"{PARAMS}: {where}: leaves {shown(old)} as it is")
    return scaled if isinstance(old, list) else scaled[0]


@cache
def selectors() -> frozenset[str]:
    """Return the keys that select cells: augmentations, methods and mixes."""
    return frozenset((*get_args(Augmentation), *plugins.names("methods"), *get_args(Mix)))


def selected(layer: Mapping[str, Any], cell: Cell, name: str) -> Iterator[tuple[str, Block]]:
    """Yield the parts of a layer that a cell uses, by name, the less deep first."""
    parts = [(name, layer)]
    while parts:
        deeper = []
        for where, block in parts:
            if not isinstance(block, Mapping):
                raise UserError(f"{PARAMS}: {where} = {shown(block)}: must be a block of keys")
            yield where, {key: value for key, value in block.items() if key not in selectors()}
            deeper += [(f"{where}.{key}", block[key]) for key in cell[1:] if key in block]
        parts = deeper


def expanded(blocks: Mapping[str, Block], name: str, where: str, path: tuple[str, ...] = ()) -> list[tuple[str, Block]]:
    """Return a block and those that it is ``like``, the most general first, each with its name.

    Raises:
        UserError: no such block, or a circle of them.
    """
    block = entry(blocks, name, f"{PARAMS}: {where}")
    if name in path:
        raise UserError(f"{PARAMS}: {where}.{name}.like: {' -> '.join((*path, name))} is a circle; break it")
    own = [(f"{where}.{name}", {key: value for key, value in block.items() if key != "like"})]
    if "like" not in block:
        return own
    return expanded(blocks, block["like"], where, (*path, name)) + own


class Data(NamedTuple):
    """Where a data set's rows come from, which are taken, and what is known of them before they are fetched."""

    module: ModuleType
    source: Strict
    rows: Strict
    form: Form


def data(params: Params, dataset: str) -> Data:
    """Return the source and the choice of rows of a data set.

    Raises:
        UserError: naming the key, the value and what is allowed.
    """
    merged, where = Merged(), f"data.{dataset}"
    for name, block in expanded(params.data, dataset, "data"):
        merged.add(block, name)
    for key in ("source", "rows"):
        if not isinstance(merged.settings.get(key), dict):
            raise UserError(f"{PARAMS}: {where}.{key}: is missing; must be a block of keys")
    if unknown := set(merged.settings) - {"source", "rows"}:
        raise UserError(f"{PARAMS}: {where}.{min(unknown)}: unknown key; allowed: source, rows, like")
    source, rows = merged.settings["source"], merged.settings["rows"]
    if "name" not in source:
        raise UserError(f"{PARAMS}: {where}.source.name: is missing; must be one of {', '.join(plugins.names('datasets'))}")
    module = plugins.find("datasets", source["name"], f"{PARAMS}: {where}.source.name")
    checked = [
        validated(model, block, str(PARAMS), whole=f"{where}.{key}")
        for key, model, block in (("source", module.Source, source), ("rows", module.Rows, rows))
    ]
    try:
        return Data(module, *checked, module.form(*checked))
    except ValueError as error:
        raise UserError(f"{PARAMS}: {where}.{error}") from None


def resolve(params: Params, cell: Cell, change: tuple[str, Mapping[str, Any]] = ("", {})) -> Settings:
    """Merge the layers of one cell, and on top of them an ablation's ``change`` (its name, what it sets); check the result.

    Raises:
        UserError: naming the layer that holds the offending key, the value and what is allowed.
    """
    merged, found = Merged(), data(params, cell.dataset)
    for layer, block in [("defaults", params.defaults), *expanded(params.recipe, cell.dataset, "recipe")]:
        for name, part in selected(block, cell, layer):
            merged.add({key: value for key, value in part.items() if key != "probe"}, name)
    merged.add(change[1], change[0])
    model = domains.training_class(cell.method, found.module.KIND)
    settings = merged.settings
    for key in set(settings) - set(model.model_fields):
        if any(key in plugins.find("methods", method).Settings.model_fields for method in plugins.names("methods")):
            del settings[key]  # of another method
    if cell.mix == "none":
        settings.pop("alpha", None)
    for key in ("mix", "augmentation"):
        if key in settings:
            raise UserError(f"{PARAMS}: {merged.origin[key]}.{key}: unknown key; a cell's own name says it")
    settings |= {"augmentation": cell.augmentation, "mix": cell.mix}
    whole = ".".join(("recipe", *cell))
    checked = validated(model, settings, str(PARAMS), merged.origin, whole)
    _check_fit(cell, found, checked, merged.origin, whole)
    return checked


def _check_fit(cell: Cell, found: Data, settings: Settings, origin: Mapping[str, str], whole: str) -> None:
    """Refuse CutMix of what is no image, and a batch larger than the rows."""
    if cell.mix == "icutmix" and found.module.KIND != "image":
        raise UserError(
            f"{PARAMS}: {whole}: CutMix cuts images; {cell.dataset} has {found.module.KIND} rows: must be none or imix"
        )
    form = found.form
    count = form.train - (form.validation if form.carved and cell.method == "supervised" else 0)
    count = min(count, int(count * settings.fraction) + form.classes)  # a share of each class, rounded up
    if form.exact and settings.batch_size > count:
        raise UserError(
            f"{PARAMS}: {origin['batch_size']}.batch_size = {settings.batch_size}: must be at most the {count} "
            f"training rows of {cell.dataset}"
        )


def evaluation(params: Params, dataset: str) -> Block:
    """Return how a data set's encoders are evaluated: kind, encoder (the untrained baseline's), views, probe.

    Raises:
        UserError: naming the key, the value and what is allowed.
    """
    merged, kind = Merged(), data(params, dataset).module.KIND
    for name, block in [("defaults", params.defaults), *expanded(params.recipe, dataset, "recipe")]:
        merged.add({key: block[key] for key in ("encoder", "views", "probe") if key in block}, name)
    settings, whole = merged.settings | {"kind": kind}, f"recipe.{dataset}"
    probe_origin = {key.removeprefix("probe."): f"{name}.probe" for key, name in merged.origin.items()}
    probe = validated(Probe, settings.pop("probe", {}), str(PARAMS), probe_origin, f"{whole}.probe")
    domain = validated(domains.domain_class(kind), settings, str(PARAMS), merged.origin, whole)
    if probe.copies and kind != "image":
        raise UserError(f"{PARAMS}: {whole}.probe.copies = {probe.copies}: must be 0: only images are augmented")
    return domain.model_dump() | {"probe": probe.model_dump()}


def ablation_datasets(params: Params, name: str) -> list[str]:
    """Return the data sets of the grid that an ablation runs on."""
    ablation: Ablation = entry(params.ablation, name, f"{PARAMS}: ablations.run: ablation")
    return [dataset for dataset in ablation.datasets or params.ablations.datasets if dataset in params.grid.datasets]


def variants(params: Params, name: str, dataset: str) -> list[tuple[Cell, str, Settings]]:
    """Return all trainings of one ablation on one data set: cell, name of the value, settings.

    A value that sets ``augmentation: clean`` takes the settings of the clean cells.

    Raises:
        UserError: no such ablation, or a change that its cells cannot have.
    """
    ablation: Ablation = entry(params.ablation, name, f"{PARAMS}: ablation")
    axes = (ablation.values, ablation.augmentation, ablation.methods, ablation.mixes)
    return [
        (Cell(dataset, *rest), value, _varied(params, Cell(dataset, *rest), f"ablation.{name}.values.{value}", ablation))
        for value, *rest in product(*axes)
    ]


def _varied(params: Params, cell: Cell, where: str, ablation: Ablation) -> Settings:
    """Return the settings of a cell with one value of an ablation, ``where``'s last part."""
    change = dict(ablation.values[where.rpartition(".")[2]])
    augmentation = change.pop("augmentation", cell.augmentation)
    if augmentation not in get_args(Augmentation):
        raise UserError(f"{PARAMS}: {where}.augmentation = {shown(augmentation)}: must be augmented or clean")
    try:
        return resolve(params, cell._replace(augmentation=augmentation), (where, change))
    except UserError as error:  # of what does not fit together, it may name what is not changed
        raise UserError(str(error) if where in str(error) else f"{error} (with {where})") from None
