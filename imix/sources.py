"""What the modules of `imix.datasets` share: form, choice of rows, files of a package, saving.

A source's module returns a `Form` before anything is fetched and `Splits` after reading. `save`
writes the splits to data/<dataset>/tensors: the arrays, and ``card.json``, which says what they
are. `imix.dataset.load` reads both.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imix import archives, plugins
from imix.archives import Checksum
from imix.errors import UserError
from imix.files import replacing, sha256, write_json
from imix.schema import Count, ProperFraction, Seed, Strict

SPLITS = ("train", "validation", "test")
CHECKSUMS = "checksums.json"  # of the raw files
FEWEST = 2  # rows of a validation or test split: of one row, every metric is 0 or 100


class DrawnRows(Strict):
    """A seeded, stratified choice of rows out of one table."""

    train: Count  # validation rows included
    validation: ProperFraction  # share of the training rows that choices are made on
    test: Count
    seed: Seed


class PartRows(Strict):
    """A seeded, stratified choice out of the source's own training and test rows."""

    train: Count | None  # validation rows included; null for all
    validation: ProperFraction  # share of the training rows that choices are made on
    test: Count | None
    seed: Seed


class Form(NamedTuple):
    """What is known of a data set before anything is fetched.

    Attributes:
        train: how many training rows, with the carved validation rows; ``fit``: without them.
            (`Splits` and the card count "train" without them.)
        validation, test: how many rows these splits have.
        classes: how many there are.
        shape, dtype: of a stored row; the dtype is numpy's name.
        column_groups: tabular only, how many columns each group has; ``numbers``: how many leading
            ones are numeric.
        carved: validation rows are training rows put aside.
        exact: False where only the archive says how many rows there are; the official edition's are
            given then.
        unlabelled: rows without a label, for pretraining only.
    """

    train: int
    validation: int
    test: int
    classes: int
    shape: tuple[int, ...]
    dtype: str
    column_groups: tuple[int, ...] = ()
    numbers: int = 0
    carved: bool = True
    exact: bool = True
    unlabelled: int = 0

    @property
    def fit(self) -> int:
        """Training rows without any validation row."""
        return self.train - self.validation if self.carved else self.train


def drawn_form(rows: DrawnRows, table: int, **facts: Any) -> Form:
    """Return the form of splits drawn from one table of ``table`` rows.

    Args:
        rows: the choice. table: rows that there are. facts: the other fields of `Form`.

    Raises:
        ValueError: more rows than there are, or too few of a split; the text starts with the key.
    """
    if (total := rows.train + rows.test) > table:
        raise ValueError(f"rows.train + rows.test = {total}: must be at most the {table} rows that there are")
    form = Form(rows.train, round(rows.train * rows.validation), rows.test, **facts)
    check_carved(form, rows)
    return form


def part_form(rows: PartRows, checksum: Checksum, train: int, test: int, **facts: Any) -> Form:
    """Return the form of splits drawn from an archive's own training and test rows.

    Args:
        rows: the choice. checksum: the source's; another archive than the official one may have
            other rows.
        train, test: rows of the official archive. facts: the other fields of `Form`.

    Raises:
        ValueError: more rows than there are, or too few of a split; the text starts with the key.
    """
    counts, exact = chosen_counts(rows, checksum, {"train": train, "test": test})
    validation = round(counts["train"] * rows.validation)
    form = Form(counts["train"], validation, counts["test"], **facts, exact=exact)
    check_carved(form, rows)
    return form


def chosen_counts(rows: Strict, checksum: Checksum, official: Mapping[str, int]) -> tuple[dict[str, int], bool]:
    """Return rows per part, and whether they are certain.

    null means all rows; how many that are is known of the official archive only.

    Raises:
        ValueError: more rows than the official archive has; the text starts with the key.
    """
    wanted = {part: getattr(rows, part) for part in official}
    for part, count in wanted.items():
        if checksum == "official" and count is not None and count > official[part]:
            there_are = f"must be at most the {official[part]} rows that there are, or null for all of them"
            raise ValueError(f"rows.{part} = {count}: {there_are}")
    counts = {part: official[part] if count is None else count for part, count in wanted.items()}
    return counts, checksum == "official" or None not in wanted.values()


def check_carved(form: Form, rows: DrawnRows | PartRows) -> None:
    """Raise ValueError, starting with the key, unless each split has rows enough."""
    if form.validation < FEWEST or form.fit < form.classes:
        raise ValueError(
            f"rows.validation = {rows.validation}: puts {form.validation} of {form.train} training rows aside; must be "
            f"{FEWEST} or more, and leave at least one of each of the {form.classes} classes"
        )
    check_count("rows.test", form.test)


def check_count(key: str, count: int) -> None:
    """Raise ValueError, starting with ``key``, if a validation or test split has too few rows."""
    if count < FEWEST:
        raise ValueError(f"{key} = {count}: must be at least {FEWEST}; metrics need a spread")


def stratified(
    labels: NDArray[np.int64], sizes: Mapping[str, int], seed: int, where: str
) -> dict[str, NDArray[np.int64]]:
    """Return disjoint row indices for each split, classes in proportion, in random order.

    Args:
        labels: (N,) of all rows. sizes: rows per split. seed: of the choice. where: what an error
            names.

    Raises:
        UserError: more rows than there are, or a class with a single row, which no proportion can
            share out.
    """
    if sum(sizes.values()) > len(labels):
        raise UserError(f"{where}: {sum(sizes.values())} rows wanted, the source has {len(labels)}")
    left, result = np.arange(len(labels)), {}
    for split, size in sizes.items():
        result[split], left = _draw(left, labels[left], size, seed, where)
    return result


def _draw(
    rows: NDArray[np.int64], labels: NDArray[np.int64], size: int, seed: int, where: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ``size`` of the rows, and the others."""
    from sklearn.model_selection import train_test_split  # takes a second, which only reading needs

    left = len(rows) - size
    if not size or not left:
        shuffled = np.random.default_rng(seed).permutation(rows)
        return shuffled[:size], shuffled[size:]
    # scikit-learn refuses fewer rows than classes on either side: nothing is in proportion then
    stratify = labels if min(size, left) >= len(np.unique(labels)) else None
    try:
        chosen, others = train_test_split(rows, train_size=size, random_state=seed, stratify=stratify)
    except ValueError as error:
        reason = " ".join(str(error).split())
        text = f"{size} of {len(rows)} rows cannot be chosen with classes in proportion ({reason})"
        raise UserError(f"{where}: {text}") from None
    return chosen, others


def carve(
    inputs: NDArray[Any], labels: NDArray[np.int64], rows: DrawnRows, folder: Path
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.int64]]]:
    """Split one table into training, validation and test rows; return inputs and labels per split.

    "train" is without the validation rows, as `Splits` wants it.

    Args:
        inputs: (N, ...). labels: (N,). rows: how many of each. folder: what an error names.

    Raises:
        UserError: as `stratified`.
    """
    validation = round(rows.train * rows.validation)
    sizes = {"train": rows.train - validation, "validation": validation, "test": rows.test}
    index = stratified(labels, sizes, rows.seed, str(folder))
    return {s: inputs[i] for s, i in index.items()}, {s: labels[i] for s, i in index.items()}


def choose(labels: NDArray[np.int64], size: int | None, seed: int, where: str) -> NDArray[np.int64]:
    """Return indices of ``size`` rows, classes in proportion, in random order.

    None: of all rows, in their order.

    Raises:
        UserError: as `stratified`.
    """
    return np.arange(len(labels)) if size is None else stratified(labels, {"": size}, seed, where)[""]


def choose_parts(
    train: NDArray[np.int64], test: NDArray[np.int64], rows: PartRows, path: Path
) -> dict[str, NDArray[np.int64]]:
    """Return indices per split.

    Those of train and validation index the source's training rows, those of test its test rows.

    Args:
        train, test: labels of the source's two parts. rows: how many of each. path: what an error
            names.

    Raises:
        UserError: as `stratified`.
    """
    size = len(train) if rows.train is None else rows.train
    validation = round(size * rows.validation)
    sizes = {"train": size - validation, "validation": validation}
    chosen = stratified(train, sizes, rows.seed, f"{path}: rows.train")
    return chosen | {"test": choose(test, rows.test, rows.seed, f"{path}: rows.test")}


def training_rows(inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Return the rows that statistics are computed from where validation rows are carved.

    They are those of "train" and "validation", and never test rows.
    """
    return np.concatenate([inputs["train"], inputs["validation"]])


def column_statistics(numbers: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and standard deviation (columns,) of rows (N, columns).

    The deviation of a constant column is 1, so that it is standardised to zero.
    """
    exact = numbers.astype(np.float64)
    with np.errstate(invalid="ignore"):  # of infinite numbers, which `save` refuses by row and column
        mean, std = exact.mean(0), exact.std(0)
    return mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)


def channel_statistics(parts: list[NDArray[np.uint8]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and standard deviation (C,) in 0..1 of each channel of uint8 images (N, C, H, W).

    Sums are exact and in blocks: a float copy of all images would take four times their memory.
    """
    total = square = np.zeros(parts[0].shape[1], np.int64)
    for images in parts:
        for block in np.array_split(images, 1 + len(images) // 1000):
            total = total + block.sum((0, 2, 3), dtype=np.int64)
            square = square + (block.astype(np.int64) ** 2).sum((0, 2, 3))
    pixels = sum(len(images) * images.shape[2] * images.shape[3] for images in parts)
    mean = total / pixels
    std = np.sqrt(square / pixels - mean**2)
    return (mean / 255).astype(np.float32), (std / 255).astype(np.float32)


class Package(NamedTuple):
    """An installed package that carries a data set, and the extra of imix that installs it.

    ``member``, ``sha256``: the file; without them the package makes the data.
    """

    name: str
    extra: str
    member: str = ""
    sha256: str = ""


def packaged(package: Package) -> bytes:
    """Return the file that an installed package carries, after checking its SHA-256.

    Raises:
        UserError: the package is not installed, or carries another file.
    """
    try:
        source = Path(str(metadata.distribution(package.name).locate_file(package.member)))
        content = source.read_bytes() if package.member else b""
    except (metadata.PackageNotFoundError, OSError):
        without = f", or without {package.member}" if package.member else ""
        raise UserError(f"{package.name}: not installed{without}: pip install 'imix[{package.extra}]'") from None
    found = hashlib.sha256(content).hexdigest()
    if package.member and found != package.sha256:
        raise UserError(f"{source}: SHA-256 is {found}, must be {package.sha256}")
    return content


def look(module: ModuleType, source: Any) -> str:
    """Return in one line where the raw data of a source will come from, without fetching.

    Args:
        module: of `imix.datasets`. source: its settings.

    Raises:
        UserError: a package is not installed, or `imix.archives.look` found another archive.
    """
    if module.ARCHIVE:
        return archives.look(module.ARCHIVE, source.checksum)
    if package := getattr(module, "PACKAGE", None):
        packaged(package)
        return f"will be {'copied from' if package.member else 'made by'} the installed package {package.name}"
    return f"will be made by imix/datasets/{source.name}.py: {module.ORIGIN}"


def write_checksums(folder: Path) -> None:
    """Write ``checksums.json``: the SHA-256 of each raw file by name."""
    found = {path.name for path in folder.iterdir() if not path.name.startswith(".")} - {CHECKSUMS}
    write_json(folder / CHECKSUMS, {name: sha256(folder / name) for name in sorted(found)})


def check_checksums(folder: Path) -> None:
    """Compare raw files with what `write_checksums` wrote.

    Raises:
        UserError: a file is missing, or is another than was fetched.
    """
    try:
        wanted = json.loads((folder / CHECKSUMS).read_text())
        wrong = [name for name, digest in wanted.items() if sha256(folder / name) != digest]
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{folder}: cannot be read ({error}); run `dvc repro fetch`") from None
    if wrong:
        raise UserError(f"{folder / wrong[0]}: not the file that was fetched; run `dvc repro -f fetch`")


@dataclass(frozen=True)
class Splits:
    """A data set as arrays, before any view.

    Attributes:
        inputs: per split, (N, ...): uint8 images (N, C, H, W), int16 clips (N, samples) or float32
            rows (N, columns). The splits are disjoint: "train" has no validation row, carved or
            not.
        labels: per split, (N,) int64.
        classes: their names.
        mean, std: float32 statistics of the training rows that views standardise by.
        carved: True where validation rows are training rows put aside for choices; pretraining and
            the final probe then use both. False where they are the data set's own, and are never
            trained on.
        column_groups: tabular only, how many columns each group has; ``numbers``: how many leading
            ones are numeric.
        background: speech only, (M, 16000) int16 seconds of noise.
        unlabelled: (M, ...), rows without a label, for pretraining only.
        columns: tabular only, what makes rows of a raw table: the fields of `imix.tables.Columns`.
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
    unlabelled: NDArray[Any] | None = None
    columns: Mapping[str, Any] | None = None


def save(splits: Splits, folder: Path, kind: str, origin: str, facts: Mapping[str, Any]) -> None:
    """Write ``tensors.safetensors``, and ``card.json`` with rows, classes, shapes and ``facts``.

    Args:
        splits: what a source's ``read`` returned. folder: where to write. kind: the source's KIND.
        origin: the source's ORIGIN. facts: more of the card, as the source's settings and how rows
            were chosen.

    Raises:
        UserError: rows that are not what this kind stores, or values that cannot be trained on: NaN
            or infinite numbers, labels out of range, a class without training rows, statistics that
            are not finite.
    """
    from safetensors.numpy import save_file

    _check(splits, kind, str(folder))
    arrays = dict(splits.inputs) | {f"{name}_labels": splits.labels[name] for name in SPLITS}
    background = np.zeros((0, 0), np.int16) if splits.background is None else splits.background
    arrays |= {"mean": splits.mean, "std": splits.std, "background": background}
    if splits.unlabelled is not None:
        arrays["unlabelled"] = splits.unlabelled
    with replacing(folder / "tensors.safetensors") as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary)
        digest = sha256(temporary)
    card = {"kind": kind, "origin": origin, **_described(splits, digest), **facts}
    write_json(folder / "card.json", card)


def _described(splits: Splits, sha256: str) -> dict[str, Any]:
    """Return what a card says of the rows, and of their file's ``sha256``."""
    classes = len(splits.classes)
    return {
        "rows": {name: len(splits.labels[name]) for name in SPLITS},
        "rows_per_class": {s: np.bincount(splits.labels[s], minlength=classes).tolist() for s in SPLITS},
        "validation": "carved from the training rows" if splits.carved else "the data set's own",
        "shape": list(splits.inputs["train"].shape[1:]),
        "dtype": str(splits.inputs["train"].dtype),
        "classes": splits.classes,
        "carved": splits.carved,
        "column_groups": list(splits.column_groups),
        "numbers": splits.numbers,
        "sha256": sha256,
        **({"unlabelled": len(splits.unlabelled)} if splits.unlabelled is not None else {}),
        **({"columns": splits.columns} if splits.columns is not None else {}),
    }


def _check(splits: Splits, kind: str, where: str) -> None:
    views = plugins.find("views", kind, f"{where}: kind")
    for name in SPLITS:
        _check_split(name, splits, where)
        views.check_rows(splits.inputs[name], name, where)
    if splits.unlabelled is not None:
        views.check_rows(splits.unlabelled, "unlabelled", where)
    if missing := set(range(len(splits.classes))) - set(splits.labels["train"].tolist()):
        raise UserError(f"{where}: no training row of class {splits.classes[min(missing)]!r}")
    _check_statistics(splits, where)


def _check_split(name: str, splits: Splits, where: str) -> None:
    """Check what every kind of data set must have."""
    inputs, labels, classes = splits.inputs[name], splits.labels[name], len(splits.classes)
    if labels.dtype != np.int64 or labels.ndim != 1:
        raise UserError(f"{where}: {name} labels are {labels.dtype} {labels.shape}; must be int64 (N,)")
    if not len(labels):
        raise UserError(f"{where}: no {name} rows")
    shape, dtype = (len(labels), *splits.inputs["train"].shape[1:]), splits.inputs["train"].dtype
    if (inputs.shape, inputs.dtype) != (shape, dtype):
        text = f"{name} is {inputs.dtype} {inputs.shape}; must be {dtype} {shape}"
        raise UserError(f"{where}: {text}, as the training rows and the labels are")
    if not 0 <= labels.min() <= labels.max() < classes:
        found = f"{labels.min()}..{labels.max()}"
        raise UserError(f"{where}: {name} labels are {found}; must be 0..{classes - 1}, one number for each class")


def _check_statistics(splits: Splits, where: str) -> None:
    mean, std, columns = splits.mean, splits.std, splits.inputs["train"].shape[1]
    if mean.dtype != np.float32 or std.dtype != np.float32 or mean.ndim != 1 or mean.shape != std.shape:
        found = f"mean {mean.dtype} {mean.shape}, deviation {std.dtype} {std.shape}"
        raise UserError(f"{where}: statistics are {found}; must be float32 of one shape (N,)")
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        values = f"mean {mean.tolist()}, deviation {std.tolist()}; must be finite, deviations above 0"
        raise UserError(f"{where}: the training rows have no spread to standardise by: {values}")
    if splits.column_groups and not sum(splits.column_groups) == columns >= splits.numbers == len(mean):
        text = f"{columns} columns, {splits.numbers} of them numbers, {len(mean)} means"
        raise UserError(f"{where}: {text}; must be groups of {splits.column_groups} with a mean for each number")
