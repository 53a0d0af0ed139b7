"""UCI Covertype: 581,012 places in forests, 10 numbers and 44 flags, 7 kinds of trees; the first 15,120 rows are the training rows."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imix.datasets import Splits
from imix.datasets.archives import OFFICIAL, choose_splits, fetch, reading
from imix.errors import UserError

if TYPE_CHECKING:
    from imix.settings import StandardisedRows, VerifiedSource

__all__ = ["fetch", "read"]

CLASSES = ["Spruce/Fir", "Lodgepole Pine", "Ponderosa Pine", "Cottonwood/Willow", "Aspen", "Douglas-fir", "Krummholz"]
COLUMN_GROUPS = (10, 4, 40)  # numbers; wilderness areas; kinds of soil
NUMBERS = COLUMN_GROUPS[0]
TRAINING_ROWS = 15_120


def read(source: VerifiedSource, rows: StandardisedRows, folder: Path) -> Splits:
    """To float32 (N, 54).

    Raises:
        UserError: anything but rows of 54 integers and a class from 1 to 7, or too few of them.
    """
    import pandas as pd

    path, columns = folder / OFFICIAL[source.name].file, sum(COLUMN_GROUPS)
    try:
        with reading(path), gzip.open(path) as file:
            table = pd.read_csv(file, header=None, dtype=np.int32).to_numpy()
    except (ValueError, OverflowError) as error:
        raise UserError(f"{path}: not a table of integers ({' '.join(str(error).split())})") from None
    if table.shape[1] != columns + 1:
        raise UserError(f"{path}: {table.shape[1]} columns; must be {columns} and the class")
    if len(table) <= TRAINING_ROWS:
        raise UserError(f"{path}: {len(table)} rows; the first {TRAINING_ROWS} are the training rows, and test rows must follow")
    labels = table[:, -1].astype(np.int64) - 1
    if wrong := set(labels.tolist()) - set(range(len(CLASSES))):
        raise UserError(f"{path}: class {min(wrong) + 1}; must be 1..{len(CLASSES)}")
    index = choose_splits(labels[:TRAINING_ROWS], labels[TRAINING_ROWS:], rows, path)
    training = np.concatenate([index["train"], index["validation"]])
    index["test"] = index["test"] + TRAINING_ROWS
    numbers = table[training if rows.standardise == "train" else slice(None), :NUMBERS].astype(np.float64)
    std = numbers.std(0)
    return Splits(
        {split: table[chosen, :columns].astype(np.float32) for split, chosen in index.items()},
        {split: labels[chosen] for split, chosen in index.items()},
        CLASSES,
        numbers.mean(0).astype(np.float32),
        np.where(std > 0, std, 1).astype(np.float32),  # a constant column stays at zero
        carved=True,
        column_groups=COLUMN_GROUPS,
        numbers=NUMBERS,
    )
