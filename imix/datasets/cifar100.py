"""CIFAR-100: 32 x 32 colour photographs of 100 classes, 50,000 training and 10,000 test images."""

from pathlib import Path
from typing import Literal

from imix import archives
from imix.archives import Archive, Checksum
from imix.datasets.cifar10 import KIND, SHAPE, TEST, TRAIN, Layout, read_layout
from imix.schema import Strict
from imix.sources import Form, PartRows, Splits, part_form

__all__ = ["ARCHIVE", "CLASSES", "KIND", "ORIGIN", "Rows", "Source", "fetch", "form", "read"]

# as the archive's fine_label_names.txt has them
FINE = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""
CLASSES = FINE.split()
ARCHIVE = Archive(
    "cifar-100-binary.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    "md5:03b5dce01913d631647c71ecec9e9cb8",
    168_513_733,
)
ORIGIN = f"archive {ARCHIVE.file}"
LAYOUT = Layout("cifar-100-binary", ("train.bin",), "test.bin", 2)


class Source(Strict):
    """The binary archive, from its official address or a mirror."""

    name: Literal["cifar100"]
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
    """Read uint8 images (N, 3, 32, 32) with fine labels; errors are those of `read_layout`."""
    return read_layout(folder / ARCHIVE.file, LAYOUT, CLASSES, rows)
