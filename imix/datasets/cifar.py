"""CIFAR-10 and CIFAR-100: 32 x 32 colour photographs, 50,000 to train on and 10,000 to test on, as the binary archives have them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imix.datasets import Splits
from imix.datasets.archives import OFFICIAL, choose_splits, fetch, members
from imix.errors import UserError

if TYPE_CHECKING:
    from imix.settings import SplitRows, VerifiedSource

__all__ = ["fetch", "read"]

SHAPE = (3, 32, 32)
FINE = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle caterpillar
cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster
house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree
orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose
sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television
tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""  # CIFAR-100's classes, as its fine_label_names.txt has them


class Layout(NamedTuple):
    """Where an archive has what; a record is label bytes, the last of them the fine label, then red, green and blue planes."""

    folder: str
    train: tuple[str, ...]
    test: str
    label_bytes: int
    classes: tuple[str, ...]


LAYOUTS = {
    "cifar10": Layout(
        "cifar-10-batches-bin",
        tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        "test_batch.bin",
        1,
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    ),
    "cifar100": Layout(
        "cifar-100-binary",
        ("train.bin",),
        "test.bin",
        2,
        tuple(FINE.split()),
    ),
}


def read(source: VerifiedSource, rows: SplitRows, folder: Path) -> Splits:
    """To uint8 (N, 3, 32, 32); CIFAR-100's labels are the fine ones.

    Raises:
        UserError: a member that is missing, or that is not made of records of known classes.
    """
    path, layout = folder / OFFICIAL[source.name].file, LAYOUTS[source.name]
    found = {name: content for name, content in members(path) if name.endswith(".bin")}
    images, labels = {}, {}
    for part, names in (("train", layout.train), ("test", (layout.test,))):
        batches = [_records(f"{layout.folder}/{name}", found, layout, path) for name in names]
        images[part], labels[part] = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    index = choose_splits(labels["train"], labels["test"], rows, path)
    part_of = {"train": "train", "validation": "train", "test": "test"}
    inputs = {split: images[part_of[split]][chosen] for split, chosen in index.items()}
    mean, std = _statistics([inputs["train"], inputs["validation"]])
    return Splits(
        inputs,
        {split: labels[part_of[split]][chosen] for split, chosen in index.items()},
        list(layout.classes),
        mean,
        std,
        carved=True,
    )


def _records(name: str, found: dict[str, bytes], layout: Layout, path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images and labels of one member."""
    size = layout.label_bytes + int(np.prod(SHAPE))
    content = found.get(name)
    if content is None:
        raise UserError(f"{path}: no member {name}")
    if not content or len(content) % size:
        raise UserError(f"{path}: {name}: {len(content)} bytes are not records of {size} bytes")
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    labels = records[:, layout.label_bytes - 1].astype(np.int64)
    if labels.max() >= len(layout.classes):
        raise UserError(f"{path}: {name}: label {labels.max()}; must be 0..{len(layout.classes) - 1}")
    return records[:, layout.label_bytes :].reshape(-1, *SHAPE), labels


def _statistics(parts: list[NDArray[np.uint8]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation (3,) of each colour in 0..1, summed exactly; nothing of the images' size is ever float."""
    total = square = np.zeros(3, np.int64)
    for images in parts:
        for block in np.array_split(images, 1 + len(images) // 1000):
            total = total + block.sum((0, 2, 3), dtype=np.int64)
            square = square + (block.astype(np.int64) ** 2).sum((0, 2, 3))
    pixels = sum(len(images) for images in parts) * SHAPE[1] * SHAPE[2]
    mean = total / pixels
    std = np.sqrt(square / pixels - mean**2)
    return (mean / 255).astype(np.float32), (std / 255).astype(np.float32)
