"""Read params.yaml, and check every block and every cell of it before any work."""

import copy
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, create_model

from imix import plugins
from imix.errors import UserError
from imix.evaluation import Probe
from imix.methods.base import Augmentation, Mix
from imix.paths import Cell
from imix.scaling import is_scaled
from imix.schema import Strict, entry, shown, validated
from imix.settings import merging, text
from imix.settings.merging import BASES, PARAMS, data
from imix.settings.study import SUPERVISED, Ablation, Params

# folders and files in data/ and data/settings/ablations/*/ that a data set's name would clash with
RESERVED = ("ablations", "archives", "asked", "best", "encoders", "histories", "metrics", "settings", "shown")


def load(path: Path = PARAMS) -> Params:
    """Read and check params.yaml.

    Raises:
        UserError: naming file, key, value and what is allowed.
    """
    return check(text.read(path))


def check(raw: Any) -> Params:
    """Check what params.yaml says.

    Raises:
        UserError: naming file, key, value and what is allowed.
    """
    if not isinstance(raw, dict):
        what = "is empty" if raw is None else f"is {shown(raw)}"
        raise UserError(f"{PARAMS}: {what}; must be a mapping with the keys {', '.join(Params.model_fields)}")
    params = validated(Params, raw, str(PARAMS))
    for dataset in params.data:
        if dataset in RESERVED:
            raise UserError(f"{PARAMS}: data.{dataset}: the name is used for other files; take another name")
        merging.source_and_rows(params, dataset)
        if _used(params, dataset):
            data(params, dataset)
    if "like" in params.defaults:
        raise UserError(f"{PARAMS}: defaults.like: unknown key; a recipe may be like another")
    _check_layer(params.defaults, "defaults", "")
    for dataset, layer in params.recipe.items():
        if dataset in BASES and dataset not in params.data:
            kind = BASES[dataset]
        else:
            entry(params.data, dataset, f"{PARAMS}: recipe.{dataset}: data")
            kind = merging.source_and_rows(params, dataset)[0].KIND
        merging.expanded(params.recipe, dataset, "recipe")
        _check_layer(layer, f"recipe.{dataset}", kind)
    _check_grid(params)
    for name in params.ablation:
        _check_ablation(params, name, params.asked(name))
    for dataset in params.recipe:
        if dataset in params.data and _used(params, dataset):
            _check_cells(params, dataset)
    _check_transfer(params)
    for name in params.ablations.run:
        for dataset in merging.ablation_datasets(params, name):
            merging.variants(params, name, dataset)
    return params


def _used(params: Params, dataset: str) -> bool:
    """Whether to check a data set; a user's own files must exist only while the grid names it."""
    return dataset in params.grid.datasets or not merging.is_own(params, dataset)


def _check_cells(params: Params, dataset: str) -> None:
    """Check all cells that a data set could have, of the methods named anywhere in the file."""
    merging.evaluation_settings(params, dataset)
    image = data(params, dataset).module.KIND == "image"
    ablated = {method for name in params.ablation for method in params.asked(name).methods}
    methods = sorted({*params.grid.methods, SUPERVISED, *ablated})
    for augmentation, method, mix in product(get_args(Augmentation), methods, get_args(Mix)):
        if mix != "icutmix" or image:
            merging.resolve(params, Cell(dataset, augmentation, method, mix))


def _check_layer(layer: Any, name: str, kind: str, path: tuple[str, ...] = ()) -> None:
    """Check each part of a layer by itself: an error names its place, and no later layer hides it.

    Args:
        kind: of the data set; "" for the defaults, which have neither encoder nor views. path: the
            selectors on the way to this layer.
    """
    if not isinstance(layer, dict):
        raise UserError(f"{PARAMS}: {name} = {shown(layer)}: must be a block of keys")
    if path and (wrong := {"probe", "like"} & set(layer)):
        raise UserError(f"{PARAMS}: {name}.{min(wrong)}: must be one for all cells; move it out of {'.'.join(path)}")
    own = {key: value for key, value in layer.items() if key not in {*merging.selectors(), "like", "probe"}}
    methods = tuple(sorted(merging.axes()[1] & set(path))) or tuple(plugins.names("methods"))
    validated(_partial(methods, kind, "none" in path), own, str(PARAMS), whole=name, passes=is_scaled)
    if "probe" in layer:
        validated(_optional(Probe), layer["probe"], str(PARAMS), whole=f"{name}.probe")
    for key in [key for key in layer if key in merging.selectors()]:
        axis = next(axis for axis in merging.axes() if key in axis)
        if other := axis & set(path):
            raise UserError(f"{PARAMS}: {name}.{key}: {min(other)} is chosen already; move these keys out of it")
        _check_layer(layer[key], f"{name}.{key}", kind, (*path, key))


@cache
def _partial(methods: tuple[str, ...], kind: str, plain: bool = False) -> type[Strict]:
    """Return a model whose keys are all optional: the settings of some methods on one domain.

    Without a domain there are neither encoder nor views; ``plain`` cells have no alpha.
    """
    fields: dict[str, Any] = {}
    for method in methods:
        fields |= _optional_fields(plugins.find("methods", method).Settings)
    for name in ("mix", "augmentation", "encoder", "views"):  # a cell's own name says the first two
        del fields[name]
    if plain:
        del fields["alpha"]
    if kind:
        views = plugins.find("views", kind)
        fields |= {"encoder": (_optional(views.Encoder.Settings), None), "views": (_optional(views.Settings), None)}
    return create_model("layer", __base__=Strict, **fields)


def _optional(model: type[BaseModel]) -> type[Strict]:
    return create_model(f"{model.__name__} layer", __base__=Strict, **_optional_fields(model))


def _optional_fields(model: type[BaseModel]) -> dict[str, Any]:
    fields = {}
    for name, field in model.model_fields.items():
        optional = copy.copy(field)
        optional.default = None
        fields[name] = (field.annotation, optional)
    return fields


def _check_grid(params: Params) -> None:
    for method in params.grid.methods:
        plugins.find("methods", method, f"{PARAMS}: grid.methods")
    for dataset in params.grid.datasets:
        for block in ("data", "recipe"):
            entry(getattr(params, block), dataset, f"{PARAMS}: grid.datasets: {block}")
        for axis in ("mixes", SUPERVISED):
            merging.check_mixes(params, dataset, getattr(params.grid, axis), f"grid.{axis}")
        if params.grid.supervised and data(params, dataset).form.classes < 2:
            text = f"{dataset} has no two classes, so that nothing can be trained with labels; must be []"
            raise UserError(f"{PARAMS}: grid.supervised = {params.grid.supervised}: {text}")
    for name in params.ablations.run:
        entry(params.ablation, name, f"{PARAMS}: ablations.run: ablation")
    for number, name in enumerate(params.ablations.datasets):
        entry(params.data, name, f"{PARAMS}: ablations.datasets.{number}: data")
    for method in params.ablations.methods:
        plugins.find("methods", method, f"{PARAMS}: ablations.methods")


def _check_transfer(params: Params) -> None:
    """Refuse what would fail only after all trainings."""
    grid = dict.fromkeys(params.grid.datasets)
    if any(params.transfer.pairs.count(pair) > 1 for pair in params.transfer.pairs):
        raise UserError(f"{PARAMS}: transfer.pairs: one is given twice; give each once")
    for number, pair in enumerate(params.transfer.pairs):
        where = f"{PARAMS}: transfer.pairs.{number}"
        datasets = (pair.pretrained_on, pair.probed_on)
        for dataset in datasets:
            entry(grid, dataset, f"{where}: grid.datasets")
        if datasets[0] == datasets[1]:
            raise UserError(f"{where}: {datasets[0]} to itself is no transfer; must be two data sets")
        forms = [data(params, dataset) for dataset in datasets]
        seen = [(each.module.KIND, each.form.shape[0], each.form.column_groups) for each in forms]
        if seen[0] != seen[1]:
            raise UserError(f"{where}: {datasets[0]} to {datasets[1]}: must have rows of one kind")


def _check_ablation(params: Params, name: str, ablation: Ablation) -> None:
    """Check the names and keys of an ablation, also of one that does not run."""
    where, domains = f"ablation.{name}", plugins.names("views")
    for method in ablation.methods:
        plugins.find("methods", method, f"{PARAMS}: {where}.methods")
    for dataset in ablation.datasets or []:
        entry(params.data, dataset, f"{PARAMS}: {where}.datasets: data")
    for value, change in ablation.values.items():
        keys = {key: inner for key, inner in change.items() if key != "augmentation"}
        errors = [_error(tuple(ablation.methods), kind, keys, f"{where}.values.{value}") for kind in domains]
        if all(errors):
            # a value is meant for one domain; on another, its keys are unknown and resemble none
            raise UserError(max(errors, key=lambda error: ("unknown key" not in error, "did you mean" in error)))


def _error(methods: tuple[str, ...], kind: str, keys: dict[str, Any], where: str) -> str:
    """Return the error of some settings on one domain; "" if there is none."""
    try:
        validated(_partial(methods, kind), keys, str(PARAMS), whole=where, passes=merging.is_factor)
    except UserError as error:
        return str(error)
    return ""
