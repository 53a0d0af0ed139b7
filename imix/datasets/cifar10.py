"""CIFAR-10: 32 x 32 colour photographs of 10 classes, 50,000 training and 10,000 test images.

CIFAR-100 has the same layout, so its module reads with `read_layout`, too.
"""

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imix import archives
from imix.archives import Archive, Checksum, members
from imix.errors import UserError
from imix.schema import Strict
from imix.sources import Form, PartRows, Splits, channel_statistics, choose_parts, part_form

KIND = "image"
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
SHAPE = (3, 32, 32)
TRAIN, TEST = 50_000, 10_000
ARCHIVE = Archive(
    "cifar-10-binary.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "md5:c32a1d4ab5d03f1284b67883e8d87530",
    170_052_171,
)
ORIGIN = f"archive {ARCHIVE.file}"


class Layout(NamedTuple):
    """Members of a CIFAR archive.

    A record is ``label_bytes``, the last of them the label that is used, then red, green and blue
    planes.
    """

    folder: str
    train: tuple[str, ...]
    test: str
    label_bytes: int


BATCHES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
LAYOUT = Layout("cifar-10-batches-bin", BATCHES, "test_batch.bin", 1)


class Source(Strict):
    """The binary archive, from its official address or a mirror."""

    name: Literal["cifar10"]
    checksum: Checksum = "official"


class Rows(PartRows):
    """A seeded, stratified choice out of the official training and test images."""


def form(source: Source, rows: Rows) -> Form:
    """Return what the settings give, before anything is fetched.

    Raises:
        ValueError: rows that cannot be had; the text starts with the key.
    """
    return part_form(rows, source.checksum, TRAIN, TEST, classes=len(CLASSES), shape=SHAPE, dtype="uint8")


def fetch(source: Source, folder: Path) -> None:
    """Put the verified archive into ``folder``; errors are those of `imix.archives.fetch`."""
    archives.fetch(ARCHIVE, source.checksum, folder)


def read(source: Source, rows: Rows, folder: Path) -> Splits:
    """Read the images as uint8 (N, 3, 32, 32); errors are those of `read_layout`."""
    return read_layout(folder / ARCHIVE.file, LAYOUT, CLASSES, rows)


def read_layout(path: Path, layout: Layout, classes: list[str], rows: PartRows) -> Splits:
    """Read a CIFAR archive as uint8 images (N, 3, 32, 32) with the last label byte of each record.

    Args:
        path: the archive. layout: its members. classes: their names. rows: how many of each split.

    Raises:
        UserError: a member is missing, unknown, or not made of records of known classes; or fewer
            rows than wanted.
    """
    wanted = [f"{layout.folder}/{name}" for name in (*layout.train, layout.test)]
    found = {}
    for name, content in members(path):
        if name in wanted:
            found[name] = _records(name, content, layout, len(classes), path)
        elif name.lower().endswith(".bin"):
            raise UserError(f"{path}: unknown member {name}; must be {', '.join(wanted)}")
    if missing := [name for name in wanted if name not in found]:
        raise UserError(f"{path}: no member {missing[0]}")
    images, labels = {}, {}
    for part, names in (("train", wanted[:-1]), ("test", wanted[-1:])):
        images[part], labels[part] = (np.concatenate(a) for a in zip(*(found.pop(n) for n in names), strict=True))
    index = choose_parts(labels["train"], labels["test"], rows, path)
    part_of = {"train": "train", "validation": "train", "test": "test"}
    inputs = {split: images[part_of[split]][chosen] for split, chosen in index.items()}
    chosen_labels = {split: labels[part_of[split]][chosen] for split, chosen in index.items()}
    mean, std = channel_statistics([inputs["train"], inputs["validation"]])
    return Splits(inputs, chosen_labels, classes, mean, std, carved=True)


def _records(
    name: str, content: bytes, layout: Layout, classes: int, path: Path
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images and labels of one member."""
    size = layout.label_bytes + int(np.prod(SHAPE))
    if not content or len(content) % size:
        raise UserError(f"{path}: {name}: {len(content)} bytes are not records of {size} bytes")
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    labels = records[:, layout.label_bytes - 1].astype(np.int64)
    if labels.max() >= classes:
        raise UserError(f"{path}: {name}: label {labels.max()}; must be 0..{classes - 1}")
    return records[:, layout.label_bytes :].reshape(-1, *SHAPE), labels
