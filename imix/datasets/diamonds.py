"""Diamonds: 53,794 round diamonds with 7 numbers, colour and clarity; classes are their cuts.

The table of ggplot2, as the plotnine package carries it. The cut depends weakly on each number and
more on their relations, so that raw numbers leave a linear classifier much to want.
"""

from pathlib import Path
from typing import Literal

import numpy as np

from imix.errors import UserError
from imix.files import write_bytes
from imix.schema import Strict
from imix.sources import (
    DrawnRows,
    Form,
    Package,
    Splits,
    carve,
    column_statistics,
    drawn_form,
    packaged,
    training_rows,
)

KIND = "tabular"
CLASSES = ["Fair", "Good", "Very Good", "Premium", "Ideal"]
COLUMNS = ["carat", "depth", "table", "price", "x", "y", "z"]
FLAGS = {
    "color": ["D", "E", "F", "G", "H", "I", "J"],
    "clarity": ["I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"],
}
NUMBERS = len(COLUMNS)
COLUMN_GROUPS = (NUMBERS, *(len(values) for values in FLAGS.values()))
ORIGIN = "53,940 diamonds carried by the plotnine package, repeated rows dropped"
ARCHIVE = None
DIAMONDS = 53_794  # without the repeated ones
FILE = "diamonds.csv"
SHA256 = "9574730b03aba241d899c4a97511c5061b19358fab89510774fb6c24168345c4"
PACKAGE = Package("plotnine", "embedded", f"plotnine/data/{FILE}", SHA256)


class Source(Strict):
    """The table of the plotnine package."""

    name: Literal["diamonds"]


class Rows(DrawnRows):
    """A seeded, stratified choice."""


def form(source: Source, rows: Rows) -> Form:
    """Return what the settings give, before anything is fetched.

    Raises:
        ValueError: rows that cannot be had; the text starts with the key.
    """
    table = {"shape": (sum(COLUMN_GROUPS),), "dtype": "float32", "column_groups": COLUMN_GROUPS, "numbers": NUMBERS}
    return drawn_form(rows, DIAMONDS, classes=len(CLASSES), **table)


def fetch(source: Source, folder: Path) -> None:
    """Copy the file out of the installed package.

    Raises:
        UserError: the package is not installed, or carries another file.
    """
    write_bytes(folder / FILE, packaged(PACKAGE))


def read(source: Source, rows: Rows, folder: Path) -> Splits:
    """Read the table as float32 (N, 22): numbers, then one flag per colour and per clarity.

    Repeated rows are dropped first: the same diamond must not be trained on and tested.

    Raises:
        UserError: another table than that, or fewer rows than wanted.
    """
    import pandas as pd

    path = folder / FILE
    try:
        table = pd.read_csv(path).drop_duplicates()
        numbers = table[COLUMNS].to_numpy(np.float32)
        words = {name: table[name].to_numpy(str) for name in ("cut", *FLAGS)}
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: not the table of diamonds ({' '.join(str(error).split())})") from None
    for name, allowed in {"cut": CLASSES, **FLAGS}.items():
        if unknown := set(words[name]) - set(allowed):
            raise UserError(f"{path}: {name} {min(map(str, unknown))!r}; must be one of {', '.join(allowed)}")
    labels = np.array([CLASSES.index(cut) for cut in words["cut"]], np.int64)
    flags = [(words[name][:, None] == np.array(values)).astype(np.float32) for name, values in FLAGS.items()]
    inputs, split_labels = carve(np.concatenate([numbers, *flags], axis=1), labels, rows, folder)
    mean, std = column_statistics(training_rows(inputs)[:, :NUMBERS])
    facts = {"column_groups": COLUMN_GROUPS, "numbers": NUMBERS, "columns": {"numbers": COLUMNS, "categories": FLAGS}}
    return Splits(inputs, split_labels, CLASSES, mean, std, carved=True, **facts)
