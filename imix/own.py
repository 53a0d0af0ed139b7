"""A user's own data in ``own/<name>/``: its files, raw data and splits.

DVC hashes all of ``own/`` for the stage `settings`, which writes the hash of each data set's own
files into its source.json. So editing a file makes what depends on that data set stale, and nothing
else.
"""

import hashlib
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from imix.errors import UserError
from imix.files import replacing
from imix.files import sha256 as file_sha256
from imix.schema import Name, ProperFraction, Seed, Strict
from imix.sources import FEWEST, SPLITS, Form, stratified

OWN = Path("own")
FEWEST_OF_CLASS = 3  # rows of a class: one for each split
PACKED = "files.zip"
ALL = "all"  # the class of all rows of a data set without labels
EARLIEST = (1980, 1, 1, 0, 0, 0)  # that zip knows: equal files give equal archives
Index = NDArray[np.int64]
Text = Annotated[str, Field(min_length=1, max_length=500)]


class OwnSource(Strict):
    """What all sources of own data share."""

    # below own/; the data set's name where it is null
    folder: Name | None = None
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")  # of the files; the stage settings writes it


class OwnRows(Strict):
    """How rows are split. Shares are of all rows (test) and of the other rows (validation)."""

    validation: ProperFraction = 0.2
    test: ProperFraction = 0.2
    seed: Seed = 0


def place(source: OwnSource) -> Path:
    """Return the folder of a data set's files.

    Raises:
        UserError: there is none, or it is a link.
    """
    folder = OWN / str(source.folder)
    for path in (OWN, folder):
        if path.is_symlink():
            raise _is_link(path)
    if not folder.is_dir():
        raise UserError(f"{folder}: is not there; put the data set's files into this folder")
    return folder


def _is_link(path: Path) -> UserError:
    """Return the error for a link to a folder."""
    return UserError(f"{path}: is a link to a folder, whose edits DVC does not see; copy or move the files there")


def files_below(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    """Return the files below a folder with one of these suffixes, sorted; hidden ones are left out.

    Raises:
        UserError: there is none, or a folder below is a link.
    """
    found, wanted = [], tuple(suffixes)
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and path.is_dir():
            raise _is_link(path)
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in wanted and path.is_file() and not hidden:
            found.append(path)
    if not found:
        raise UserError(f"{folder}: has no file of {', '.join(wanted)}")
    return found


def signature(paths: Iterable[Path]) -> tuple[tuple[str, int, int], ...]:
    """Return what changes with the files: names, sizes and times."""
    return tuple((path.as_posix(), stat.st_size, stat.st_mtime_ns) for path in paths for stat in [path.stat()])


def content_sha256(paths: Iterable[Path]) -> str:
    """Return the SHA-256 of files with their names.

    Files are read again only if their size or time has changed.
    """
    return _content_sha256(signature(paths))


@lru_cache(maxsize=64)
def _content_sha256(files: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, *_ in files:
        digest.update(f"{name} {file_sha256(Path(name))}\n".encode())
    return digest.hexdigest()


def check_unchanged(source: OwnSource, paths: Iterable[Path]) -> None:
    """Raise UserError if files are not those that the stage `settings` saw."""
    if source.sha256 != content_sha256(paths):
        raise UserError(f"{place(source)}: its files have changed since the stage settings ran; run `dvc repro` again")


def pack(source: OwnSource, paths: Sequence[Path], folder: Path) -> None:
    """Put a data set's files into one archive in ``folder``: the same bytes for the same files.

    Raises:
        UserError: they have changed since the stage settings ran.
    """
    check_unchanged(source, paths)
    base = place(source)
    with replacing(folder / PACKED) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for path in paths:
            entry = zipfile.ZipInfo(path.relative_to(base).as_posix(), EARLIEST)
            archive.writestr(entry, path.read_bytes())


def unpacked(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files that `pack` packed, in its order."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            yield name, archive.read(name)


class Choice(NamedTuple):
    """Indices of the rows of each split and, under "unlabelled", of rows for pretraining only."""

    index: dict[str, Index]
    carved: bool


def choose(
    labels: Index, classes: list[str], rows: OwnRows, where: str, given: Any = None, groups: Any = None
) -> Choice:
    """Split rows: as ``given``, or at random with classes in proportion.

    Args:
        labels: (N,) classes, -1 for rows without a label. classes: their names. where: what errors
            name.
        given: (N,) names of splits; of training rows, validation rows are carved where none are
            given.
        groups: (N,) names; rows of one group come into one split.

    Raises:
        UserError: an unknown split, a class or a split of too few rows, too few groups.
    """
    labelled = np.flatnonzero(labels >= 0)
    if not len(labelled):
        raise UserError(f"{where}: no row has a label; leave out source.label to train without labels")
    if given is not None:
        index, carved = _given(labels, np.asarray(given, object), rows, where)
    else:
        _check_classes(labels, classes, groups, where)
        index, carved = _drawn(labels, labelled, rows, where, groups), True
    if untrained := set(labels[labelled].tolist()) - set(labels[index["train"]].tolist()):
        raise UserError(f"{where}: class {classes[min(untrained)]!r} has no row in train; must have one or more there")
    for split in SPLITS:
        if len(index[split]) < FEWEST:
            raise UserError(
                f"{where}: {len(labels)} rows put {len(index[split])} into {split}; must be {FEWEST} or more: "
                "add rows, or raise rows.validation or rows.test"
            )
    index["unlabelled"] = np.flatnonzero(labels < 0)
    if given is not None:
        index["unlabelled"] = index["unlabelled"][np.asarray(given, object)[index["unlabelled"]] == "train"]
    elif groups is not None:  # nothing of a group that is evaluated is trained on
        held = set(groups[index["validation"]]) | set(groups[index["test"]])
        index["unlabelled"] = np.array([row for row in index["unlabelled"] if groups[row] not in held], np.int64)
    return Choice(index, carved)


def _given(labels: Index, given: NDArray[Any], rows: OwnRows, where: str) -> tuple[dict[str, Index], bool]:
    if unknown := sorted(set(map(str, given)) - set(SPLITS)):
        raise UserError(f"{where}: split {unknown[0]!r}; must be train, test and, if wanted, validation")
    index = {split: np.flatnonzero((given == split) & (labels >= 0)) for split in SPLITS}
    carved = not len(index["validation"])
    if carved:
        train = index["train"]
        validation = round(len(train) * rows.validation)
        sizes = {"train": len(train) - validation, "validation": validation}
        parts = stratified(labels[train], sizes, rows.seed, where)
        index |= {split: train[part] for split, part in parts.items()}
    return index, carved


def _check_classes(labels: Index, classes: list[str], groups: Any, where: str) -> None:
    counts = np.bincount(labels[labels >= 0], minlength=len(classes))
    if groups is None and counts.min() < FEWEST_OF_CLASS:
        name, count = classes[int(counts.argmin())], int(counts.min())
        raise UserError(
            f"{where}: class {name!r} has {count} row{'s' * (count != 1)}; must have {FEWEST_OF_CLASS} or more, one "
            "for each split: add rows, or leave out the label of these"
        )


def _drawn(labels: Index, labelled: Index, rows: OwnRows, where: str, groups: Any) -> dict[str, Index]:
    if groups is None:
        if len(labelled) < 3 * FEWEST:
            raise UserError(f"{where}: {len(labelled)} rows with a label; must be {3 * FEWEST} or more")
        test = min(max(FEWEST, round(len(labelled) * rows.test)), len(labelled) - 2 * FEWEST)
        validation = max(FEWEST, round((len(labelled) - test) * rows.validation))
        sizes = {"train": len(labelled) - test - validation, "validation": validation, "test": test}
        return {split: labelled[part] for split, part in stratified(labels[labelled], sizes, rows.seed, where).items()}
    rest, test = _by_groups(labelled, labels, rows.test, rows.seed, where, groups)
    train, validation = _by_groups(rest, labels, rows.validation, rows.seed, where, groups)
    return {"train": train, "validation": validation, "test": test}


def _by_groups(rows: Index, labels: Index, share: float, seed: int, where: str, groups: Any) -> tuple[Index, Index]:
    """Return the rows without about ``share`` of them, and those; no group is in both."""
    from sklearn.model_selection import StratifiedGroupKFold

    parts, count = max(2, round(1 / share)), len(set(groups[rows]))
    if count < 2:
        raise UserError(f"{where}: {count} group; must be 3 or more, one for each split")
    fold = StratifiedGroupKFold(min(parts, count), shuffle=True, random_state=seed)
    others, chosen = next(iter(fold.split(rows, labels[rows], groups[rows])))
    return rows[others], rows[chosen]


class FolderRows(OwnRows):
    """How the files of a folder are split."""

    split: Literal["folders"] | None = None  # the folders train, test and, if wanted, validation hold the classes
    group: Text | None = None  # a regular expression: files whose names match it alike come into one split

    @field_validator("group")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return value


class Listing(NamedTuple):
    """What the names of files say: classes, each file's class (-1: none), split and group."""

    classes: list[str]
    labels: Index
    given: NDArray[Any] | None
    groups: NDArray[Any] | None


def listing(names: Sequence[str], rows: FolderRows, where: str) -> Listing:
    """Return what names like "class/file" say, with ``split: folders`` like "train/class/file".

    Files in no folder of a class have no label; if none is in one, all are of one class.

    Raises:
        UserError: a file outside of the folders of splits, or whose name has no group.
    """
    parts, given = [name.split("/") for name in names], None
    if rows.split:
        given = np.array([part[0] for part in parts], object)
        if wrong := [name for name, part in zip(names, parts, strict=True) if len(part) < 2 or part[0] not in SPLITS]:
            raise UserError(f"{where}: {wrong[0]}: must be in a folder train, validation or test, with split: folders")
        parts = [part[1:] for part in parts]
    named = [part[0] if len(part) > 1 else None for part in parts]
    classes = sorted({name for name in named if name is not None})
    place = {name: number for number, name in enumerate(classes)} or {None: 0}
    labels = np.array([place.get(name, -1) for name in named], np.int64)
    groups = None
    if rows.group:
        found = [re.search(rows.group, part[-1]) for part in parts]
        if None in found:
            name = names[found.index(None)]
            raise UserError(f"{where}: {name}: the file's name does not match rows.group = {rows.group!r}")
        groups = np.array([match.group() for match in found if match], object)
    return Listing(classes or [ALL], labels, given, groups)


def form_of(choice: Choice, classes: int, shape: tuple[int, ...], dtype: str, **facts: Any) -> Form:
    """Return the form of a data set that was split."""
    counts = {split: len(rows) for split, rows in choice.index.items()}
    counts["train"] += counts["validation"] * choice.carved
    return Form(**counts, classes=classes, shape=shape, dtype=dtype, carved=choice.carved, **facts)


def taken(rows: NDArray[Any], choice: Choice) -> tuple[dict[str, NDArray[Any]], NDArray[Any] | None]:
    """Return the rows of each split, and those without a label, None if there are none."""
    inputs = {split: rows[choice.index[split]] for split in SPLITS}
    unlabelled = choice.index["unlabelled"]
    return inputs, rows[unlabelled] if len(unlabelled) else None
