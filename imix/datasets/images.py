"""A user's pictures in ``own/<name>/``, a folder per class."""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from imix import media, own
from imix.schema import Within
from imix.sources import Form, Splits, channel_statistics

KIND = "image"
CLASSES: list[str] = []  # the folders
ORIGIN = "pictures of one's own"
ARCHIVE = None


class Source(own.OwnSource):
    """Pictures of any size, PNG, JPEG, WebP, BMP or TIFF."""

    name: Literal["images"]


class Rows(own.FolderRows):
    """The canvas that each picture is scaled to cover; its centre is taken."""

    canvas: Annotated[list[Annotated[int, Within(4, 1024)]], Field(min_length=2, max_length=2)] = [32, 32]
    channels: Literal[1, 3] = 3  # 1: grey

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a row."""
        return self.channels, self.canvas[0], self.canvas[1]


def form(source: Source, rows: Rows) -> Form:
    """Return what the files give, by their names alone; errors are those of `imix.own`."""
    folder = own.place(source)
    names = [path.relative_to(folder).as_posix() for path in files(source)]
    listed, choice = _split(names, rows, str(folder))
    return own.form_of(choice, len(listed.classes), rows.shape, "uint8")


def _split(names: list[str], rows: Rows, where: str) -> tuple[own.Listing, own.Choice]:
    listed = own.listing(names, rows, where)
    return listed, own.choose(listed.labels, listed.classes, rows, where, listed.given, listed.groups)


def files(source: Source) -> list[Path]:
    """Return the files that the data set depends on."""
    return own.files_below(own.place(source), media.PICTURES)


def fetch(source: Source, folder: Path) -> None:
    """Pack the pictures into one file.

    Raises:
        UserError: they have changed since the stage settings ran.
    """
    own.pack(source, files(source), folder)


def read(source: Source, rows: Rows, folder: Path) -> Splits:
    """Read the pictures as uint8 (N, C, H, W).

    Raises:
        UserError: a picture that cannot be read, or a split that is too small.
    """
    names, pictures = [], []
    for name, content in own.unpacked(folder / own.PACKED):
        names.append(name)
        pictures.append(media.picture(content, rows.shape, f"{own.OWN}/{source.folder}/{name}"))
    where = f"{own.OWN}/{source.folder}"
    listed, choice = _split(names, rows, where)
    inputs, unlabelled = own.taken(np.stack(pictures), choice)
    labels = {split: listed.labels[choice.index[split]] for split in inputs}
    training: list[Any] = [inputs["train"], *([inputs["validation"]] if choice.carved else [])]
    mean, std = channel_statistics(training)
    return Splits(inputs, labels, listed.classes, mean, std, carved=choice.carved, unlabelled=unlabelled)
