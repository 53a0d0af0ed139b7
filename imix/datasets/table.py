"""A user's table in ``own/<name>/``: CSV, TSV or Parquet, one row an item."""

import shutil
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import model_validator

from imix import own, tables
from imix.errors import UserError
from imix.files import replacing
from imix.progress import say
from imix.schema import entry
from imix.sources import SPLITS, Form, Splits, column_statistics

KIND = "tabular"
CLASSES: list[str] = []  # the values of the label
ORIGIN = "a table of one's own"
ARCHIVE = None
MOST_CLASSES = 1000


class Source(own.OwnSource):
    """The file, or a file for each split, and what its columns are."""

    name: Literal["table"]
    file: own.Text | None = None
    files: dict[Literal["train", "validation", "test"], own.Text] | None = None
    label: own.Text | None = None  # its column; null: none, and no accuracy is reported
    drop: list[own.Text] = []
    categories: list[own.Text] = []  # columns of numbers that name categories
    missing: tables.Missing = "refuse"
    decimal: Literal[".", ","] = "."

    @model_validator(mode="after")
    def _one(self) -> "Source":
        if (self.file is None) == (self.files is None):
            raise ValueError("file is missing; must be a file's name, or files a block of one for each split")
        for name in [self.file] if self.file else list((self.files or {}).values()):
            if Path(str(name)).is_absolute() or ".." in Path(str(name)).parts:
                raise ValueError(f"file {name!r} must be below the data set's folder")
        return self


class Rows(own.OwnRows):
    """How rows are split: at random, or by a column."""

    split: own.Text | None = None  # column of train, test and, if wanted, validation
    group: own.Text | None = None  # column; rows of one group come into one split


class Scan(NamedTuple):
    """What a first reading finds: columns, and each row's class (-1: none), split and group."""

    columns: tables.Columns
    constant: list[str]
    classes: list[str]
    labels: NDArray[np.int64]
    given: NDArray[Any] | None
    groups: NDArray[Any] | None
    texts: frozenset[str]  # columns to read as texts


def _paths(source: Source, folder: Path) -> dict[str, Path]:
    """Return the files by split; "" of the only one."""
    return {split: folder / name for split, name in (source.files or {"": str(source.file)}).items()}


def files(source: Source) -> list[Path]:
    """Return the files that the data set depends on.

    Raises:
        UserError: one is not there.
    """
    found = list(_paths(source, own.place(source)).values())
    if missing := [path for path in found if not path.is_file()]:
        raise UserError(f"{missing[0]}: is not there; put the table there, or correct source.file")
    return found


def form(source: Source, rows: Rows) -> Form:
    """Return what the table gives; errors are those of `imix.own` and `imix.tables`."""
    found = files(source)
    scan = _scan(source, rows, own.place(source))
    width = sum(scan.columns.groups)
    choice = own.choose(scan.labels, scan.classes, rows, str(found[0]), scan.given, scan.groups)
    facts = {"column_groups": scan.columns.groups, "numbers": len(scan.columns.numbers)}
    return own.form_of(choice, len(scan.classes), (width,), "float32", **facts)


def fetch(source: Source, folder: Path) -> None:
    """Copy the table.

    Raises:
        UserError: it has changed since the stage settings ran.
    """
    found, base = files(source), own.place(source)
    own.check_unchanged(source, found)
    for path in found:
        with replacing(folder / "_".join(path.relative_to(base).parts)) as temporary:
            shutil.copyfile(path, temporary)


def read(source: Source, rows: Rows, folder: Path) -> Splits:
    """Read the table as float32 (N, columns): numbers, flags of categories, flags of gaps.

    Raises:
        UserError: as `form`.
    """
    flat = {split: "_".join(Path(name).parts) for split, name in _paths(source, Path()).items()}
    source = source.model_copy(update={"files": flat, "file": None} if source.files else {"file": flat[""]})
    scan = _scan(source, rows, folder)
    where = f"{own.OWN}/{source.folder}"
    for kind, names in (("listed in drop", source.drop), ("constant", scan.constant)):
        if names:
            say(f"{where}: columns left out, {kind}: {', '.join(names)}")
    choice = own.choose(scan.labels, scan.classes, rows, where, scan.given, scan.groups)
    matrix = np.empty((len(scan.labels), sum(scan.columns.groups)), np.float32)
    first = 0
    for _, block in _blocks(source, folder, scan.texts):
        matrix[first : first + len(block)] = scan.columns.matrix(block, where, first + 1)
        first += len(block)
    training = np.concatenate([choice.index["train"], choice.index["validation"][: len(matrix) * choice.carved]])
    columns = scan.columns.model_copy(update={"fill": _fill(matrix, training, len(scan.columns.numbers))})
    inputs, unlabelled = own.taken(matrix, choice)
    labels = {split: scan.labels[choice.index[split]] for split in SPLITS}
    mean, std = column_statistics(matrix[training, : len(columns.numbers)])
    facts = {"column_groups": columns.groups, "numbers": len(columns.numbers), "columns": columns.model_dump()}
    return Splits(inputs, labels, scan.classes, mean, std, carved=choice.carved, unlabelled=unlabelled, **facts)


def _fill(matrix: NDArray[np.float32], training: NDArray[np.int64], numbers: int) -> list[float]:
    """Fill gaps in the numbers by the mean of the training rows, in place; return the means."""
    means = []
    for column in matrix.T[:numbers]:
        known = column[training]
        known = known[~np.isnan(known)]
        means.append(float(known.mean(dtype=np.float64)) if len(known) else 0.0)
        column[np.isnan(column)] = means[-1]
    return means


def _blocks(source: Source, folder: Path, texts: frozenset[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield blocks of rows with the split of their file, "" where there is one file."""
    for split, path in _paths(source, folder).items():
        for block in tables.blocks(path, source.decimal, texts):
            yield split, block


def _scan(source: Source, rows: Rows, folder: Path) -> Scan:
    """Read all rows once; the last tables are remembered until a file changes."""
    paths = _paths(source, folder)
    asked = source.model_dump_json(exclude={"sha256", "folder"}), rows.model_dump_json(include={"split", "group"})
    return _scanned(*asked, str(source.folder), folder, own.signature(paths.values()))


@lru_cache(maxsize=8)
def _scanned(asked: str, chosen: str, name: str, folder: Path, signature: Any) -> Scan:
    source, rows = Source.model_validate_json(asked), Rows.model_validate_json(chosen)
    where = f"{own.OWN}/{name}"
    special = [column for column in (source.label, rows.split, rows.group) if column]
    texts = frozenset([*special, *source.categories])
    found, notes, mixed = _read_once(source, special, folder, texts, where)
    if mixed:  # numbers in one block and texts in another: all are texts
        texts |= mixed
        found, notes, _ = _read_once(source, special, folder, texts, where)
    facts = {"decimal": source.decimal}
    left = {column: each for column, each in found.items() if column not in (*special, *source.drop)}
    columns = tables.chosen_columns(left, source.missing, where, **facts)
    classes, labels = [own.ALL], np.zeros(len(notes), np.int64)
    if source.label:
        classes, labels = _coded(notes[source.label])
        if len(classes) > MOST_CLASSES:
            text = f"has {len(classes)} different values, as {classes[0]!r}; must have at most {MOST_CLASSES} classes"
            raise UserError(f"{where}: label {source.label!r} {text}")
    split = "file" if source.files else rows.split
    given = notes[split].to_numpy(object) if split else None
    groups = _coded(notes[rows.group])[1] if rows.group else None
    constant = [column for column, each in left.items() if each.constant]
    return Scan(columns, constant, classes, labels, given, groups, texts)


def _coded(texts: pd.Series) -> tuple[list[str], NDArray[np.int64]]:
    """Return the different texts, sorted, and each row's place among them, -1 for a gap."""
    codes, values = pd.factorize(texts)
    order = sorted(range(len(values)), key=lambda place: tables.rank(values[place]))
    places = np.append(np.argsort(order), -1).astype(np.int64)  # code -1 takes the last
    return [str(values[place]) for place in order], places[codes]


def _read_once(
    source: Source, special: list[str], folder: Path, texts: frozenset[str], where: str
) -> tuple[dict[str, tables.Found], pd.DataFrame, frozenset[str]]:
    """Return what columns have, texts of special columns by row, and columns of mixed content."""
    found: dict[str, tables.Found] = {}
    numeric: set[str] = set()
    notes = []
    for split, block in _blocks(source, folder, texts):
        if not found:
            for column in (*special, *source.drop, *source.categories):
                entry(dict.fromkeys(map(str, block.columns)), column, f"{where}: column")
        elif wrong := set(found) ^ set(map(str, block.columns)):
            raise UserError(f"{where}: column {min(wrong)!r} is not in all files; must have the same columns")
        for column in map(str, block.columns):
            found[column] = tables.found(block[column], column in texts, found.get(column))
            numeric |= {column} if pd.api.types.is_numeric_dtype(block[column].dtype) else set()
        noted = {column: tables.as_text(block[column]).astype("category") for column in special}
        notes.append(pd.DataFrame(noted, index=block.index).assign(file=split))
    if not sum(map(len, notes)):
        raise UserError(f"{where}: has no rows")
    all_notes = pd.concat([note.astype(object) for note in notes], ignore_index=True)
    mixed = frozenset(column for column in numeric if not found[column].number) - texts
    return found, all_notes, mixed
