"""Where rows come from and which are taken; and, as far as settings tell it, how many that gives."""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, RootModel

from imix.schema import Below, Count, Says, Seed, Share, Strict, Within

Archive = Literal["cifar10", "cifar100", "speech_commands", "covtype"]
# official: the checksum that this project carries; null: none, with a warning
Checksum = (
    Annotated[
        str,
        Field(pattern=r"^(official|sha256:[0-9a-f]{64}|md5:[0-9a-f]{32})$"),
        Says('official, "sha256:..." with 64 digits, "md5:..." with 32, or null for no check'),
    ]
    | None
)


class PackageSource(Strict):
    """A file that a package on the index carries; nothing to set."""

    name: Literal["mnist", "segment"]


class SpokenSource(Strict):
    """Words synthesised by eSpeak NG."""

    name: Literal["spoken"]
    seed: Seed  # of the choice of voices, rates and pitches
    voices: Annotated[
        dict[Literal["train", "validation", "test"], Annotated[int, Within(1, 10_000)]], Field(min_length=3)
    ]  # speakers per split, disjoint
    words: Annotated[int, Within(10, 1_000)]  # per voice; the ten commands first, then unknown words


class ArchiveSource(Strict):
    """An archive of the paper's, from its official address or a mirror; `sources` says which checksum it must have."""

    name: Archive


class VerifiedSource(ArchiveSource):
    """An archive with the rule that its bytes are held against."""

    checksum: Checksum


class DrawnRows(Strict):
    """A seeded, stratified choice of rows out of one table."""

    train: Count  # validation rows included
    validation: Share  # share of the training rows that choices are made on
    test: Count
    seed: Seed


class PlacedRows(DrawnRows):
    """The same, each image at a random place of a larger one."""

    canvas: Annotated[int, Within(28, 512)]  # pixels a side; the images have 28


class SplitRows(Strict):
    """A seeded, stratified choice out of the source's own training and test rows."""

    train: Count | None  # validation rows included; null for all
    validation: Share  # share of the training rows that choices are made on
    test: Count | None
    seed: Seed


class StandardisedRows(SplitRows):
    """The same, with a choice of the rows that means and deviations are taken from."""

    standardise: Literal["train", "all"]  # all: test rows too, as published, which leaks them


class SpokenRows(Strict):
    """The splits are the voices'."""

    silence: Below  # share of all-zero clips among training and validation rows; none in test


class CommandRows(SpokenRows):
    """A seeded, stratified choice out of the source's own three splits; null for all of one."""

    train: Count | None  # clips, before silence is added
    validation: Count | None
    test: Count | None
    seed: Seed


ROWS: dict[str, type[Strict]] = {
    "mnist": PlacedRows,
    "segment": DrawnRows,
    "spoken": SpokenRows,
    "cifar10": SplitRows,
    "cifar100": SplitRows,
    "speech_commands": CommandRows,
    "covtype": StandardisedRows,
}


class Source(RootModel[Annotated[PackageSource | SpokenSource | VerifiedSource, Field(discriminator="name")]]):
    """Any source, resolved."""


class Data(Strict):
    """Where a data set's rows come from, and which are taken; ``rows`` is checked by the source's class in `ROWS`."""

    source: Annotated[PackageSource | SpokenSource | ArchiveSource, Field(discriminator="name")]
    rows: dict[str, Any]


class Size(NamedTuple):
    """What a source holds: the kind of its rows, classes, and rows per split; ``table``: rows of a source without splits."""

    kind: Literal["image", "speech", "tabular"]
    classes: int
    train: int = 0  # validation rows included where they are carved from these
    validation: int = 0
    test: int = 0
    table: int = 0


SIZES = {
    "mnist": Size("image", 10, table=5_000),
    "segment": Size("tabular", 7, table=2_086),
    "spoken": Size("speech", 12),
    "cifar10": Size("image", 10, 50_000, 0, 10_000),
    "cifar100": Size("image", 100, 50_000, 0, 10_000),
    "speech_commands": Size("speech", 12, 51_088, 6_798, 6_835),
    "covtype": Size("tabular", 7, 15_120, 0, 565_892),
}


def splits(source: Strict, rows: Strict) -> dict[str, int]:
    """Rows per split, where ``train`` has the carved validation rows too; those of an archive's official edition."""
    size, chosen = SIZES[source.name], rows.model_dump()  # type: ignore[attr-defined]
    if isinstance(source, SpokenSource):
        counts = {str(split): voices * source.words for split, voices in source.voices.items()}
    else:
        counts = {split: chosen[split] or getattr(size, split) for split in ("train", "test")}
    if isinstance(rows, CommandRows):
        counts["validation"] = rows.validation or size.validation
    elif isinstance(rows, DrawnRows | SplitRows):
        counts["validation"] = round(counts["train"] * chosen["validation"])
    if silence := chosen.get("silence"):
        for split in ("train", "validation"):
            counts[split] += round(counts[split] * silence / (1 - silence))
    return counts


def training_rows(source: Strict, rows: Strict, supervised: bool) -> int | None:
    """Rows that a training has, without the carved validation rows if ``supervised``; None where only the archive can tell."""
    if isinstance(source, VerifiedSource) and source.checksum != "official" and rows.train is None:  # type: ignore[attr-defined]
        return None
    counts = splits(source, rows)
    return counts["train"] - (counts["validation"] if supervised and isinstance(rows, DrawnRows | SplitRows) else 0)


def at_most(count: int, fraction: float, classes: int) -> int:
    """No more rows than this are a ``fraction`` of ``count``: a share of each class, rounded up."""
    return min(count, int(count * fraction) + classes)


def impossible(source: Strict, rows: Strict) -> str:
    """Why the rows cannot be had, as the end of a message that starts with their block; empty if they can."""
    size, counts = SIZES[source.name], splits(source, rows)  # type: ignore[attr-defined]
    if size.table and counts["train"] + counts["test"] > size.table:
        return f".train + test = {counts['train'] + counts['test']}: must be at most the {size.table} rows that there are"
    if isinstance(source, VerifiedSource) and source.checksum == "official":
        for split, wanted in rows.model_dump().items():
            if split in ("train", "test", "validation") and isinstance(wanted, int) and wanted > getattr(size, split):
                return f".{split} = {wanted}: must be at most the {getattr(size, split)} rows that there are, or null for all of them"
    if isinstance(rows, DrawnRows | SplitRows):
        left = counts["train"] - counts["validation"]
        if counts["validation"] < 1 or left < size.classes:
            return (
                f".validation = {rows.validation}: puts {counts['validation']} of {counts['train']} training rows aside; must be one or "
                f"more, and leave at least one of each of the {size.classes} classes"
            )
    elif counts["train"] < size.classes:
        return f".train = {counts['train']}: must be at least one row of each of the {size.classes} classes"
    return ""
