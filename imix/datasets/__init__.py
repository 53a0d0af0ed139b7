"""Data sets: fetch a source, read it into named arrays with statistics of the training rows, load them as tensors.

One module per source, with two functions: ``fetch(source, folder)`` brings the verified raw files into a folder,
``read(source, rows, folder)`` makes a `Splits` of them. Neither needs torch; only `load` does.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imix.errors import UserError
from imix.files import replacing, sha256, write_bytes, write_json

if TYPE_CHECKING:
    import torch

    from imix.settings import DrawnRows

SPLITS = ("train", "validation", "test")
CHECKSUMS = "checksums.json"  # of the raw files


@dataclass(frozen=True)
class Splits:
    """A data set as arrays, before any view.

    Attributes:
        inputs: per split, (N, ...): uint8 images (N, C, H, W), int16 clips (N, samples) or float32 rows (N, columns).
        labels: per split, (N,) int64.
        classes: their names.
        mean, std: statistics of the training rows that views standardise by.
        carved: validation rows are training rows put aside for choices; a final training has both. If not, they
            are the data set's own and are never trained on.
        column_groups: tabular only, how many columns each group has; ``numbers``: how many leading ones are numeric.
        background: speech only, (M, 16000) int16 seconds of noise.
    """

    inputs: dict[str, NDArray[Any]]
    labels: dict[str, NDArray[np.int64]]
    classes: list[str]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    carved: bool
    column_groups: tuple[int, ...] = ()
    numbers: int = 0
    background: NDArray[np.int16] | None = None


@dataclass(frozen=True)
class Dataset:
    """A data set on the device.

    Attributes:
        train, train_labels: all rows that a final training uses; the last ``validation`` of them are the carved ones.
        fit, fit_labels: training rows without any validation row; what choices are made from.
        validation, validation_labels: rows that choices are made on.
        test, test_labels: rows that are only ever reported on.
        card: all that `save` wrote down of it. sha256: of the file it came from. The others are `Splits`'.
    """

    train: torch.Tensor
    train_labels: torch.Tensor
    fit: torch.Tensor
    fit_labels: torch.Tensor
    validation: torch.Tensor
    validation_labels: torch.Tensor
    test: torch.Tensor
    test_labels: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor
    background: torch.Tensor
    classes: list[str]
    carved: bool
    column_groups: list[int]
    numbers: int
    sha256: str
    card: dict[str, Any]


def source_module(name: str) -> Any:
    """The module of a source; the schema has checked the name. One module reads both CIFARs."""
    return import_module(f"imix.datasets.{'cifar' if name.startswith('cifar') else name}")


def write_checksums(folder: Path) -> None:
    """Write down what the raw files are: ``checksums.json``, SHA-256 by name."""
    names = sorted(path.name for path in folder.iterdir() if path.name != CHECKSUMS and not path.name.startswith("."))
    write_json(folder / CHECKSUMS, {name: sha256(folder / name) for name in names})


def check_checksums(folder: Path) -> None:
    """Hold raw files against what `write_checksums` wrote.

    Raises:
        UserError: a file that is missing, or another than was fetched.
    """
    try:
        wanted = json.loads((folder / CHECKSUMS).read_text())
        wrong = [name for name, digest in wanted.items() if sha256(folder / name) != digest]
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{folder}: cannot be read ({error}); `dvc repro fetch` brings it") from None
    if wrong:
        raise UserError(f"{folder / wrong[0]}: not the file that was fetched; `dvc repro -f fetch` brings it again")


def save(splits: Splits, folder: Path, facts: dict[str, Any]) -> None:
    """Write ``tensors.safetensors`` and ``card.json`` (rows, classes, shapes, and ``facts``: the source, how rows were chosen).

    Raises:
        UserError: values that no training could mean: NaN or infinite numbers, labels out of range, a class without rows.
    """
    from safetensors.numpy import save_file

    _check(splits, folder)
    arrays = {name: splits.inputs[name] for name in SPLITS} | {f"{name}_labels": splits.labels[name] for name in SPLITS}
    background = np.zeros((0, 0), np.int16) if splits.background is None else splits.background
    arrays |= {"mean": splits.mean, "std": splits.std, "background": background}
    with replacing(folder / "tensors.safetensors") as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary)
        digest = sha256(temporary)
    card = {
        "rows": {name: len(splits.labels[name]) for name in SPLITS},
        "rows_per_class": {name: np.bincount(splits.labels[name], minlength=len(splits.classes)).tolist() for name in SPLITS},
        "validation": "carved from the training rows" if splits.carved else "the data set's own",
        "shape": list(splits.inputs["train"].shape[1:]),
        "dtype": str(splits.inputs["train"].dtype),
        "classes": splits.classes,
        "carved": splits.carved,
        "column_groups": list(splits.column_groups),
        "numbers": splits.numbers,
        "sha256": digest,
        **facts,
    }
    write_json(folder / "card.json", card)


def _check(splits: Splits, folder: Path) -> None:
    shape, kind = splits.inputs["train"].shape[1:], splits.inputs["train"].dtype
    for name in SPLITS:
        inputs, labels = splits.inputs[name], splits.labels[name]
        if not len(inputs):
            raise UserError(f"{folder}: no {name} rows")
        if (inputs.shape, inputs.dtype) != ((*labels.shape, *shape), kind):
            raise UserError(f"{folder}: {name} is {inputs.dtype} {inputs.shape}; must be {kind} {(*labels.shape, *shape)}")
        if inputs.dtype.kind == "f" and not np.isfinite(inputs).all():
            row, column = np.argwhere(~np.isfinite(inputs))[0][:2]
            raise UserError(f"{folder}: {name} row {row}, column {column} is {inputs[row, column]}; numbers must be finite")
        if not 0 <= labels.min() <= labels.max() < len(splits.classes):
            raise UserError(f"{folder}: {name} labels must lie in 0..{len(splits.classes) - 1}")
    if missing := set(range(len(splits.classes))) - set(splits.labels["train"].tolist()):
        raise UserError(f"{folder}: no training row of class {splits.classes[min(missing)]!r}")
    if not (np.isfinite(splits.mean).all() and np.isfinite(splits.std).all() and (splits.std > 0).all()):
        raise UserError(f"{folder}: the training rows have no spread to standardise by: mean {splits.mean}, deviation {splits.std}")
    if splits.column_groups and not sum(splits.column_groups) == shape[0] >= splits.numbers == len(splits.mean):
        raise UserError(f"{folder}: {shape[0]} columns, {splits.numbers} of them numbers; must be groups of {splits.column_groups}")


def load(folder: Path, device: torch.device) -> Dataset:
    """Load what `save` wrote onto the device.

    Raises:
        UserError: a file that is missing, or not what its card says.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / "tensors.safetensors"
    try:
        card = json.loads((folder / "card.json").read_text())
        if sha256(path) != card["sha256"]:
            raise UserError(f"{path}: not the file that card.json describes; `dvc repro -f preprocess` remakes it")
        tensors = load_file(path, str(device))
        facts = {name: card[name] for name in ("classes", "carved", "column_groups", "numbers", "sha256")}
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UserError(f"{folder}: cannot be read ({error}); `dvc repro preprocess` makes it") from None
    fit, fit_labels = tensors.pop("train"), tensors.pop("train_labels")
    train, train_labels = fit, fit_labels
    if card["carved"]:
        train = torch.cat([fit, tensors["validation"]])
        train_labels = torch.cat([fit_labels, tensors["validation_labels"]])
        fit, fit_labels = train[: len(fit)], train_labels[: len(fit)]
    return Dataset(train=train, train_labels=train_labels, fit=fit, fit_labels=fit_labels, **tensors, **facts, card=card)


def fetch_from_package(package: str, extra: str, member: str, sha256: str, target: Path) -> None:
    """Copy a file that an installed package carries, after checking its SHA-256.

    Raises:
        UserError: the package is not installed, or carries another file.
    """
    try:
        source = Path(str(metadata.distribution(package).locate_file(member)))
        content = source.read_bytes()
    except (metadata.PackageNotFoundError, OSError):
        raise UserError(f"{package}: not installed, or without {member}: pip install 'imix[{extra}]'") from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise UserError(f"{source}: SHA-256 is {found}, must be {sha256}")
    write_bytes(target, content)


def nested_rows(labels: torch.Tensor, fraction: float, seed: int) -> torch.Tensor:
    """Indices of a share of the rows, at least one of each class, classes in proportion; a smaller share lies inside a larger."""
    import torch

    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    classes = [order[labels.cpu()[order] == label] for label in labels.unique().cpu()]
    return torch.cat([rows[: math.ceil(len(rows) * fraction)] for rows in classes])


def stratified(labels: NDArray[np.int64], sizes: dict[str, int], seed: int, where: str) -> dict[str, NDArray[np.int64]]:
    """Disjoint row indices for each split, classes in proportion (largest remainders), in random order.

    Args:
        labels: (N,) of all rows. sizes: rows per split. seed: of the choice. where: named in errors.

    Raises:
        UserError: more rows wanted than there are.
    """
    if sum(sizes.values()) > len(labels):
        raise UserError(f"{where}: {sum(sizes.values())} rows wanted, the source has {len(labels)}")
    generator = np.random.default_rng(seed)
    left = {int(label): generator.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)}
    result = {}
    for split, size in sizes.items():
        total = sum(len(rows) for rows in left.values())
        shares = {label: size * len(rows) / total for label, rows in left.items()}
        counts = {label: int(share) for label, share in shares.items()}
        by_remainder = sorted(shares, key=lambda label: counts[label] - shares[label])
        for label in by_remainder[: size - sum(counts.values())]:
            counts[label] += 1
        picked = [left[label][:count] for label, count in counts.items()]
        left = {label: rows[counts[label] :] for label, rows in left.items()}
        result[split] = generator.permutation(np.concatenate(picked))
    return result


def carve(
    inputs: NDArray[Any], labels: NDArray[np.int64], rows: DrawnRows, folder: Path
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.int64]]]:
    """Split one table, validation carved from the training rows: inputs and labels per split. ``folder`` is named in errors."""
    validation = round(rows.train * rows.validation)
    sizes = {"train": rows.train - validation, "validation": validation, "test": rows.test}
    index = stratified(labels, sizes, rows.seed, str(folder))
    return {s: inputs[i] for s, i in index.items()}, {s: labels[i] for s, i in index.items()}


def training_rows(inputs: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """The rows that statistics are computed from when validation is carved: train and validation, never test."""
    return np.concatenate([inputs["train"], inputs["validation"]])
