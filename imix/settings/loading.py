"""params.yaml, read and checked, every block and every cell of it, before any work."""

import copy
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import create_model

from imix.errors import UserError
from imix.settings import text
from imix.schema import Strict, entry, shown, validated
from imix.settings.handed import ABLATIONS
from imix.settings.merging import PARAMS, data, domain, resolve, variants
from imix.settings.study import Params
from imix.settings.training import PRETRAINING

# folders of data/ that are no data set's
RESERVED = ("ablations", "archives", "encoders", "metrics", "settings", "trainings")


def load(path: Path = PARAMS, changes: Mapping[str, str] = MappingProxyType({})) -> Params:
    """Read and check params.yaml.

    Args:
        changes: YAML in place of what stands there, as ``dvc exp run -S`` takes it: {"grid.seeds": "[0]"}.

    Raises:
        UserError: naming file, key, value and what is allowed.
    """
    raw = text.read(path)
    for key, value in changes.items():
        *blocks, last = key.split(".")
        block = raw
        for depth, name in enumerate(blocks):
            block = entry(block, name, f"{path}: {'.'.join(blocks[:depth]) or 'top level'}")
            if not isinstance(block, dict):
                raise UserError(f"{path}: {shown(key)}: {'.'.join(blocks[: depth + 1])} is a value, not a block")
        block[last] = text.parse(value, f"{key}={shown(value)}")
    return check(raw, path)


def check(raw: Any, path: Path = PARAMS) -> Params:
    """Check what params.yaml says. ``path``: for errors.

    Raises:
        UserError: naming file, key, value and what is allowed.
    """
    if not isinstance(raw, dict):
        what = "is empty" if raw is None else f"is {shown(raw)}"
        raise UserError(f"{path}: {what}; must be a mapping with the keys {', '.join(Params.model_fields)}")
    params = validated(Params, raw, str(path))
    _check_layers(params, path)
    for dataset in params.data:
        if dataset in RESERVED:
            raise UserError(f"{path}: data.{dataset}: data/{dataset} holds other things; take another name")
        data(params, dataset, path)
    for dataset in params.recipe:
        domain(params, dataset, path)
    for dataset, methods in params.cell.items():
        for method, mixes in methods.items():
            for mix in mixes:
                resolve(params, dataset, method, mix, path)
    _check_grid(params, path)
    _check_transfer(params, path)
    _check_ablations(params, path)
    return params


@cache
def _partial(method: str) -> type[Strict]:
    """A block of which every key may be missing: those of one method, or, of ``any``, of all."""
    fields: dict[str, Any] = {}
    for model in PRETRAINING.values() if method == "any" else [PRETRAINING[method]]:
        for name, field in model.model_fields.items():
            optional = copy.copy(field)
            optional.default = None
            fields[name] = (field.annotation, optional)
    del fields["mix"]  # the cell's own name says it
    return create_model(f"{method} layer", __base__=Strict, **fields)


def _check_layers(params: Params, path: Path) -> None:
    """Check each layer by itself, so that an error is told where it stands, and none hides under a later layer."""
    for block in ("recipe", "cell", "probe"):
        for dataset in getattr(params, block):
            entry(params.data, dataset, f"{path}: {block}.{dataset}: data")
    layers: list[tuple[str, str, Mapping[str, Any]]] = [("pretrain", "any", params.pretrain)]
    layers += [(f"method.{method}", method, layer) for method, layer in params.method.items()]
    layers += [(f"recipe.{dataset}", "any", layer) for dataset, layer in params.recipe.items()]
    layers += [
        (f"cell.{dataset}.{method}.{mix}", method, layer)
        for dataset, methods in params.cell.items()
        for method, mixes in methods.items()
        for mix, layer in mixes.items()
    ]
    for name, method, layer in layers:
        validated(_partial(method), layer, str(path), whole=name, origin=dict.fromkeys(layer, name))


def _check_grid(params: Params, path: Path) -> None:
    for dataset in params.grid.datasets:
        for block in ("data", "recipe", "cell", "probe"):
            entry(getattr(params, block), dataset, f"{path}: grid.datasets: {block}")
        for method, mix in params.grid.cells():
            resolve(params, dataset, method, mix, path)
    for dataset, probe in params.probe.items():
        if dataset in params.recipe and domain(params, dataset, path).views.kind != "image" and probe.copies:
            raise UserError(f"{path}: probe.{dataset}.copies = {probe.copies}: must be 0: only images are augmented")


def _check_transfer(params: Params, path: Path) -> None:
    """Refuse what would fail only after all trainings."""
    grid = dict.fromkeys(params.grid.datasets)
    if any(params.transfer.pairs.count(pair) > 1 for pair in params.transfer.pairs):
        raise UserError(f"{path}: transfer.pairs: one stands twice; each must stand once")
    for number, pair in enumerate(params.transfer.pairs):
        datasets = (pair.pretrained_on, pair.probed_on)
        for dataset in datasets:
            entry(grid, dataset, f"{path}: transfer.pairs.{number}: grid.datasets")
        if datasets[0] == datasets[1]:
            raise UserError(f"{path}: transfer.pairs.{number}: {datasets[0]} to itself is no transfer; must be two data sets")
        seen = [(domain(params, dataset, path).views.kind, params.data[dataset].source.name == "mnist") for dataset in datasets]
        if seen[0] != seen[1] or seen[0][0] == "tabular":
            raise UserError(
                f"{path}: transfer.pairs.{number}: {datasets[0]} to {datasets[1]}: must both be speech, colour images or digits"
            )


def _check_ablations(params: Params, path: Path) -> None:
    """Those that run must fit the data sets that they run on; any other at least one data set that has its cells."""
    asked = params.ablations
    for dataset in asked.datasets:
        entry(params.data, dataset, f"{path}: ablations.datasets: data")
        if asked.run and dataset not in params.grid.datasets:
            raise UserError(f"{path}: ablations.datasets: {dataset!r} is not in grid.datasets; change either, or let ablations.run be []")
    for name in asked.run:
        entry(params.ablation, name, f"{path}: ablations.run: ablation")
    for name, ablation in params.ablation.items():
        if name == ABLATIONS.name:
            raise UserError(f"{path}: ablation.{name}: {ABLATIONS} holds other things; take another name")
        if name in asked.run:
            for dataset in asked.datasets:
                variants(params, name, dataset, path)
            continue
        errors = []
        for dataset, cells in params.cell.items():
            if all(mix in cells.get(method, {}) for method in ablation.methods for mix in ablation.mixes):
                try:
                    variants(params, name, dataset, path)
                    break
                except UserError as error:
                    errors.append(error)
        else:
            if errors:
                raise errors[0]
