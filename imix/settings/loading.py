"""params.yaml, read and checked, every block and every cell of it, before any work."""

import copy
from collections.abc import Mapping
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
from imix.schema import Strict, entry, shown, validated
from imix.settings import text
from imix.settings.merging import PARAMS, ablation_datasets, data, evaluation, expanded, resolve, selectors, variants
from imix.settings.study import Params

# folders of data/ that are no data set's
RESERVED = ("ablations", "archives", "encoders", "histories", "metrics", "settings")


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
            raise UserError(f"{PARAMS}: data.{dataset}: data/{dataset} holds other things; take another name")
        data(params, dataset)
    _check_layer(params.defaults, "defaults", "", tuple(plugins.names("methods")))
    for dataset, layer in params.recipe.items():
        expanded(params.recipe, dataset, "recipe")
        kind = data(params, dataset).module.KIND
        _check_layer(layer, f"recipe.{dataset}", kind, tuple(plugins.names("methods")))
    for dataset in params.recipe:
        _check_cells(params, dataset)
    _check_grid(params)
    _check_transfer(params)
    for name in params.ablations.run:
        for dataset in ablation_datasets(params, name):
            variants(params, name, dataset)
    return params


def _check_cells(params: Params, dataset: str) -> None:
    """Check all cells that a data set could have."""
    evaluation(params, dataset)
    image = data(params, dataset).module.KIND == "image"
    for augmentation, method, mix in product(get_args(Augmentation), plugins.names("methods"), get_args(Mix)):
        if mix != "icutmix" or image:
            resolve(params, Cell(dataset, augmentation, method, mix))


def _check_layer(layer: Mapping[str, Any], name: str, kind: str, methods: tuple[str, ...]) -> None:
    """Check each part of a layer by itself, so that an error names its place, and none hides under a later layer."""
    own = {key: value for key, value in layer.items() if key not in selectors() and key not in ("like", "probe")}
    validated(_partial(methods, kind), own, str(PARAMS), whole=name)
    if "probe" in layer:
        validated(_optional(Probe), layer["probe"], str(PARAMS), whole=f"{name}.probe")
    for key in selectors() & set(layer):
        inner = layer[key]
        if not isinstance(inner, dict):
            raise UserError(f"{PARAMS}: {name}.{key} = {shown(inner)}: must be a block of keys")
        if wrong := {"probe", "like"} & set(inner):
            raise UserError(f"{PARAMS}: {name}.{key}.{min(wrong)}: must be one for all cells; move it to {name}")
        if key in plugins.names("methods") and key not in methods:
            raise UserError(f"{PARAMS}: {name}.{key}: no cell has both methods")
        _check_layer(inner, f"{name}.{key}", kind, (key,) if key in plugins.names("methods") else methods)


@cache
def _partial(methods: tuple[str, ...], kind: str) -> type[Strict]:
    """Return a model of which every key may be missing: the settings of some methods on one domain.

    Without a domain there are neither encoder nor views.
    """
    fields: dict[str, Any] = {}
    for method in methods:
        fields |= _optional_fields(plugins.find("methods", method).Settings)
    for name in ("mix", "augmentation", "encoder", "views"):  # a cell's own name says the first two
        del fields[name]
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
    for cell in (*params.grid.cells(), *params.grid.supervised_cells()):
        resolve(params, cell)
    for number, name in enumerate(params.ablations.datasets):
        entry(params.data, name, f"{PARAMS}: ablations.datasets.{number}: data")


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
