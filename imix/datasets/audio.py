"""A user's recordings in ``own/<name>/``, a folder per class: windows of a second at 16 kHz."""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imix import media, own
from imix.datasets.spoken import spectrogram_statistics
from imix.sources import Form, Splits

KIND = "speech"
CLASSES: list[str] = []  # the folders
ORIGIN = "recordings of one's own"
ARCHIVE = None


class Source(own.OwnSource):
    """Recordings of any rate, length and number of channels, WAV or FLAC."""

    name: Literal["audio"]


class Rows(own.FolderRows):
    """How windows are split: those of one recording come into one split."""


def files(source: Source) -> list[Path]:
    """Return the files that the data set depends on."""
    return own.files_below(own.place(source), media.RECORDINGS)


def form(source: Source, rows: Rows) -> Form:
    """Return what the files give, by their names and headers.

    Errors are those of `imix.own` and `imix.media`.
    """
    folder, found = own.place(source), files(source)
    counts = [media.windows_of_file(path) for path in found]
    names = [path.relative_to(folder).as_posix() for path in found]
    listed, choice, _ = _split(names, counts, rows, str(folder))
    return own.form_of(choice, len(listed.classes), (media.RATE,), "int16")


def _split(
    names: list[str], counts: list[int], rows: Rows, where: str
) -> tuple[own.Listing, own.Choice, NDArray[np.int64]]:
    """Return what the names say, the split of windows, and each window's class."""
    listed = own.listing(names, rows, where)
    file = np.repeat(np.arange(len(names)), counts)
    labels, given, groups = listed.labels[file], listed.given, listed.groups
    if groups is None and max(counts) > 1:
        groups = np.array(names, object)
    choice = own.choose(
        labels, listed.classes, rows, where,
        None if given is None else given[file], None if groups is None else groups[file],
    )  # fmt: skip
    return listed, choice, labels


def fetch(source: Source, folder: Path) -> None:
    """Pack the recordings into one file.

    Raises:
        UserError: they have changed since the stage settings ran.
    """
    own.pack(source, files(source), folder)


def read(source: Source, rows: Rows, folder: Path) -> Splits:
    """Read the recordings as int16 clips (N, 16000). There is no background to mix in.

    Raises:
        UserError: a recording that cannot be read, or a split that is too small.
    """
    where = f"{own.OWN}/{source.folder}"
    names, clips = [], []
    for name, content in own.unpacked(folder / own.PACKED):
        names.append(name)
        clips.append(media.windows(content, f"{where}/{name}"))
    listed, choice, window_labels = _split(names, [len(clip) for clip in clips], rows, where)
    inputs, unlabelled = own.taken(np.concatenate(clips), choice)
    labels = {split: window_labels[choice.index[split]] for split in inputs}
    mean, std = spectrogram_statistics(inputs["train"], rows.seed)
    return Splits(inputs, labels, listed.classes, mean, std, carved=choice.carved, unlabelled=unlabelled)
