"""UCI Image Segmentation (Statlog): 2,310 regions of outdoor photographs.

Each has 18 numbers and one of 7 classes, as the river package carries them.
"""

import io
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np

from imix.errors import UserError
from imix.schema import Strict
from imix.sources import (
    DrawnRows,
    Form,
    Splits,
    carve,
    column_statistics,
    drawn_form,
    fetch_from_package,
    training_rows,
)

KIND = "tabular"
CLASSES = ["brickface", "cement", "foliage", "grass", "path", "sky", "window"]
COLUMN_GROUPS = (2, 6, 10)  # place of the region; lines and edges; colour
NUMBERS = sum(COLUMN_GROUPS)
ORIGIN = "2,310 regions of UCI Image Segmentation carried by the river package, repeated rows dropped"
ARCHIVE = None
REGIONS = 2_086  # without the repeated ones
FILE = "segment.csv.zip"
SHA256 = "91e4402efcb6f6a4087e4bcfcd074976dd8e48819d290f45bae6bd652bd16d75"


class Source(Strict):
    """The table of the river package."""

    name: Literal["segment"]


class Rows(DrawnRows):
    """A seeded, stratified choice."""


def form(source: Source, rows: Rows) -> Form:
    """Return what the settings give, before anything is fetched.

    Raises:
        ValueError: rows that cannot be had; the text starts with the key.
    """
    table = {"shape": (NUMBERS,), "dtype": "float32", "column_groups": COLUMN_GROUPS, "numbers": NUMBERS}
    return drawn_form(rows, REGIONS, classes=len(CLASSES), **table)


def fetch(source: Source, folder: Path) -> None:
    """Copy the file out of the installed package.

    Raises:
        UserError: the package is not installed, or carries another file.
    """
    fetch_from_package("river", "embedded", f"river/datasets/{FILE}", SHA256, folder / FILE)


def read(source: Source, rows: Rows, folder: Path) -> Splits:
    """Read the table as float32 (N, 18).

    Repeated rows are dropped first: the same region must not be trained on and tested.

    Raises:
        UserError: another table than that, or fewer rows than wanted.
    """
    import pandas as pd

    try:
        with zipfile.ZipFile(folder / FILE) as archive:
            table = pd.read_csv(io.BytesIO(archive.read(FILE))).drop_duplicates()
        names = table.pop("category")
        numbers = table.to_numpy(np.float32)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder / FILE}: not a table of numbers with a column category ({reason})") from None
    if unknown := set(names) - set(CLASSES):
        word = min(map(str, unknown))
        raise UserError(f"{folder / FILE}: category {word!r}; must be one of {', '.join(CLASSES)}")
    labels = names.map(CLASSES.index).to_numpy(np.int64)
    inputs, split_labels = carve(numbers, labels, rows, folder)
    mean, std = column_statistics(training_rows(inputs))
    columns = {"column_groups": COLUMN_GROUPS, "numbers": NUMBERS}
    return Splits(inputs, split_labels, CLASSES, mean, std, carved=True, **columns)
