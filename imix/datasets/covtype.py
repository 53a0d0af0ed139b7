"""UCI Covertype: 581,012 places in forests, 10 numbers and 44 flags, 7 kinds of trees.

The first 15,120 rows are the training rows.
"""

import gzip
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imix import archives
from imix.archives import Archive, Checksum, reading
from imix.errors import UserError
from imix.schema import Strict
from imix.sources import Form, PartRows, Splits, choose_parts, column_statistics, part_form

KIND = "tabular"
CLASSES = [
    "Spruce/Fir",
    "Lodgepole Pine",
    "Ponderosa Pine",
    "Cottonwood/Willow",
    "Aspen",
    "Douglas-fir",
    "Krummholz",
]
COLUMN_GROUPS = (10, 4, 40)  # numbers; wilderness areas; kinds of soil
NUMBERS = COLUMN_GROUPS[0]
COLUMNS = sum(COLUMN_GROUPS)
TRAIN, TEST = 15_120, 565_892
ARCHIVE = Archive(
    "covtype.data.gz",
    "https://ndownloader.figshare.com/files/5976039",
    "sha256:614360d0257557dd1792834a85a1cdebfadc3c4f30b011d56afee7ffb5b15771",
    11_240_707,
)
ORIGIN = f"archive {ARCHIVE.file}"


class Source(Strict):
    """The compressed table, from its official address or a mirror."""

    name: Literal["covtype"]
    checksum: Checksum = "official"


class Rows(PartRows):
    """A seeded, stratified choice, and which rows means and deviations are computed from."""

    standardise: Literal["train", "all"]  # all: test rows too, as published, which leaks them


def form(source: Source, rows: Rows) -> Form:
    """Return what the settings give, before anything is fetched.

    Raises:
        ValueError: rows that cannot be had; the text starts with the key.
    """
    table = {"shape": (COLUMNS,), "dtype": "float32", "column_groups": COLUMN_GROUPS, "numbers": NUMBERS}
    return part_form(rows, source.checksum, TRAIN, TEST, classes=len(CLASSES), **table)


def fetch(source: Source, folder: Path) -> None:
    """Put the verified archive into ``folder``; errors are those of `imix.archives.fetch`."""
    archives.fetch(ARCHIVE, source.checksum, folder)


def read(source: Source, rows: Rows, folder: Path) -> Splits:
    """Read the table as float32 (N, 54).

    Raises:
        UserError: anything but rows of 10 integers, 44 flags and a class from 1 to 7, or too few of
            them.
    """
    path = folder / ARCHIVE.file
    table = _table(path)
    labels = table[:, -1].astype(np.int64) - 1
    index = choose_parts(labels[:TRAIN], labels[TRAIN:], rows, path)
    training = np.concatenate([index["train"], index["validation"]])
    index["test"] = index["test"] + TRAIN
    mean, std = column_statistics(table[training if rows.standardise == "train" else slice(None), :NUMBERS])
    inputs = {split: table[chosen, :COLUMNS].astype(np.float32) for split, chosen in index.items()}
    split_labels = {split: labels[chosen] for split, chosen in index.items()}
    columns = {"column_groups": COLUMN_GROUPS, "numbers": NUMBERS}
    return Splits(inputs, split_labels, CLASSES, mean, std, carved=True, **columns)


def _table(path: Path) -> NDArray[np.int32]:
    """Return all rows (N, 55), checked."""
    import pandas as pd

    try:
        with reading(path), gzip.open(path) as file:
            table = pd.read_csv(file, header=None, dtype=np.int32).to_numpy()
    except (ValueError, OverflowError) as error:
        raise UserError(f"{path}: not a table of integers ({' '.join(str(error).split())})") from None
    if table.shape[1] != COLUMNS + 1:
        raise UserError(f"{path}: {table.shape[1]} columns; must be {COLUMNS} and the class")
    if len(table) <= TRAIN:
        raise UserError(f"{path}: {len(table)} rows; the first {TRAIN} are training rows, and test rows must follow")
    if wrong := set(table[:, -1].tolist()) - set(range(1, len(CLASSES) + 1)):
        raise UserError(f"{path}: class {min(wrong)}; must be 1..{len(CLASSES)}")
    flags = table[:, NUMBERS:COLUMNS]
    if (flags != flags.astype(bool)).any():
        row, column = np.argwhere(flags != flags.astype(bool))[0].tolist()
        where = f"row {row + 1}, column {NUMBERS + column + 1}"
        raise UserError(f"{path}: {where} is {flags[row, column]}; must be 0 or 1: a flag")
    return table
