"""How layers become the settings of one data set, one training, one ablation."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imix.errors import UserError
from imix.schema import Strict, entry, shown, validated
from imix.settings.rows import ROWS, SIZES, ArchiveSource, VerifiedSource, at_most, impossible, training_rows
from imix.settings.study import Ablation, Evaluation, Params, Variant, Variants
from imix.settings.training import PRETRAINING, Domain, MoCoPretraining, Pretraining

PARAMS = Path("params.yaml")


def data(params: Params, dataset: str, path: Path = PARAMS) -> tuple[Strict, Strict]:
    """The source of a data set, with the checksum rule of an archive, and the choice of its rows.

    Raises:
        UserError: naming the key, the value and what is allowed.
    """
    block = entry(params.data, dataset, f"{path}: data")
    source: Strict = block.source
    if isinstance(source, ArchiveSource):
        source = VerifiedSource(name=source.name, checksum=entry(params.sources, source.name, f"{path}: sources").checksum)
    rows = validated(ROWS[block.source.name], block.rows, str(path), whole=f"data.{dataset}.rows")
    if reason := impossible(source, rows):
        raise UserError(f"{path}: data.{dataset}.rows{reason}")
    return source, rows


def resolve(
    params: Params, dataset: str, method: str, mix: str, path: Path = PARAMS, change: tuple[str, Mapping[str, Any]] = ("", {})
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
    settings = validated(PRETRAINING[method], merged | {"mix": mix}, str(path), origin, cell)
    if (mix == "none") != (settings.alpha is None):
        wrong = "belongs to mixing cells only; remove it" if mix == "none" else "is missing; must be a number from 0.01 to 1000"
        raise UserError(f"{path}: {origin.get('alpha', cell)}.alpha {wrong}")
    if mix == "icutmix" and settings.views.kind != "image":
        raise UserError(f"{path}: {cell}: CutMix cuts images; {dataset} has {settings.views.kind} views: must be none or imix")
    _check_domain(params, dataset, settings, path, origin)
    _check_rows(params, dataset, method, settings, f"{path}: {origin['batch_size']}")
    if isinstance(settings, MoCoPretraining) and settings.queue < settings.batch_size:  # a batch would go round the ring, over its own keys
        raise UserError(
            f"{path}: {origin['queue']}.queue = {settings.queue}: must be at least batch_size = {settings.batch_size}, the keys of one step"
        )
    return settings


def _check_domain(params: Params, dataset: str, settings: Domain, path: Path, origin: Mapping[str, str]) -> None:
    """Refuse views that do not fit the source's rows, and an encoder that does not fit the views."""
    encoder, views = settings.encoder.kind, settings.views.kind
    if dataset in params.data and views != (kind := SIZES[params.data[dataset].source.name].kind):
        raise UserError(f"{path}: {origin['views']}.views.kind = {views!r}: must be {kind!r}, which the rows of {dataset} are")
    if (encoder == "mlp") != (views == "tabular"):
        raise UserError(
            f"{path}: {origin['encoder']}.encoder.kind = {encoder!r} does not fit views.kind = "
            f"{views!r}: 'mlp' goes with 'tabular', 'resnet' with the others"
        )


def _check_rows(params: Params, dataset: str, method: str, settings: Pretraining, where: str) -> None:
    """Refuse a batch larger than the rows, as far as settings tell how many there are; the training refuses the others."""
    if dataset not in params.data:
        return
    source, rows = data(params, dataset)
    count = training_rows(source, rows, method == "supervised")
    if count is None:
        return
    count = at_most(count, settings.fraction, SIZES[params.data[dataset].source.name].classes)
    if settings.batch_size > count:
        raise UserError(f"{where}.batch_size = {settings.batch_size}: must be at most the {count} training rows of {dataset}")


def _changed(block: Mapping[str, Any], change: Mapping[str, Any], where: str) -> dict[str, Any]:
    """``block`` with some values replaced; those of nested blocks one by one; "x2" doubles a number, or every number of a list."""
    result = dict(block)
    for key, value in change.items():
        old = block.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            value = _changed(old, value, f"{where}.{key}")
        elif isinstance(value, str) and re.fullmatch(r"x\d+(\.\d+)?", value):
            numbers, factor = old if isinstance(old, list) else [old], float(value[1:])
            if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
                raise UserError(f"{where}.{key} = {value!r}: there is no number to multiply")
            if not factor:
                raise UserError(f"{where}.{key} = {value!r}: must multiply by more than 0")
            scaled = [_scaled(number, factor) for number in numbers]
            if scaled == numbers and any(numbers) and factor != 1:
                raise UserError(f"{where}.{key} = {value!r}: leaves {shown(old)} as it is")
            value = scaled if isinstance(old, list) else scaled[0]
        result[key] = value
    return result


def _scaled(number: float, factor: float) -> float:
    """A multiple, of whole numbers the nearest whole one; what is positive stays so."""
    scaled = round(number * factor, 12)
    return max(min(1, number), round(scaled)) if isinstance(number, int) else scaled


def variants(params: Params, name: str, dataset: str, path: Path = PARAMS) -> Variants:
    """All trainings of one ablation on one data set.

    Raises:
        UserError: no such ablation, or a change that its cells cannot have.
    """
    ablation: Ablation = entry(params.ablation, name, f"{path}: ablation")

    def changed(method: str, mix: str, value: str) -> dict[str, Any]:
        where = f"ablation.{name}.values.{value}"
        try:
            return resolve(params, dataset, method, mix, path, (where, ablation.values[value])).model_dump()
        except UserError as error:  # of what does not fit together, the message may name what is not changed
            raise UserError(str(error) if where in str(error) else f"{error} (with {where})") from None

    return Variants(
        question=ablation.question,
        axis=ablation.axis,
        evaluation=evaluation(params, dataset, path),
        variants=[
            Variant(method=method, mix=mix, value=value, settings=changed(method, mix, value))
            for value in ablation.values
            for method in ablation.methods
            for mix in ablation.mixes
        ],
    )


def domain(params: Params, dataset: str, path: Path = PARAMS) -> Domain:
    """The encoder and views of a data set's recipe.

    Raises:
        UserError: naming the key, the value and what is allowed.
    """
    recipe, where = entry(params.recipe, dataset, f"{path}: recipe"), f"recipe.{dataset}"
    origin = dict.fromkeys(("encoder", "views"), where)
    settings = validated(Domain, {key: recipe[key] for key in origin if key in recipe}, str(path), origin, where)
    _check_domain(params, dataset, settings, path, origin)
    return settings


def evaluation(params: Params, dataset: str, path: Path = PARAMS) -> Evaluation:
    """How a data set's encoders are judged.

    Raises:
        UserError: naming the key, the value and what is allowed.
    """
    seen = domain(params, dataset, path)
    return Evaluation(encoder=seen.encoder, views=seen.views, probe=entry(params.probe, dataset, f"{path}: probe"))
