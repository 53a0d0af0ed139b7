"""UCI Image Segmentation (Statlog): 2,310 regions of outdoor photographs, 18 numbers, 7 classes, as the river package carries it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from imix.datasets import Splits, carve, fetch_from_package, training_rows

if TYPE_CHECKING:
    from imix.settings import DrawnRows

FILE = "segment.csv.zip"
SHA256 = "91e4402efcb6f6a4087e4bcfcd074976dd8e48819d290f45bae6bd652bd16d75"
COLUMN_GROUPS = (2, 6, 10)  # place of the region; lines and edges; colour


def fetch(source: Any, folder: Path) -> None:
    """Copy the file out of the installed package."""
    fetch_from_package("river", "embedded", f"river/datasets/{FILE}", SHA256, folder / FILE)


def read(source: Any, rows: DrawnRows, folder: Path) -> Splits:
    """To float32 (N, 18). Repeated rows are dropped first: the same region must not be trained on and tested."""
    with zipfile.ZipFile(folder / FILE) as archive:
        table = pd.read_csv(io.BytesIO(archive.read(FILE))).drop_duplicates()
    classes = sorted(table["category"].unique())
    labels = table["category"].map(classes.index).to_numpy(np.int64)
    numbers = table.drop(columns="category").to_numpy(np.float32)
    inputs, split_labels = carve(numbers, labels, rows, folder)
    training = training_rows(inputs).astype(np.float64)
    std = training.std(0)
    return Splits(
        inputs,
        split_labels,
        classes,
        training.mean(0).astype(np.float32),
        np.where(std > 0, std, 1).astype(np.float32),  # a constant column stays at zero
        carved=True,
        column_groups=COLUMN_GROUPS,
        numbers=numbers.shape[1],
    )
