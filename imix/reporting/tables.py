"""The tables of a study, as Markdown that keeps its cells for the page and for LaTeX."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from imix.reporting.published import published
from imix.reporting.statistics import (
    CELL,
    Gain,
    Spread,
    counted,
    decided,
    gains,
    groups,
    holm,
    layout,
    not_above,
    over_cells,
    spreads,
)
from imix.reporting.titles import BASELINE, BASELINES, SUPERVISED, cell_title, method_title, mix_title

# labels of the training rows that a probe has -> its metric
SHARES = {
    "1 %": "linear_accuracy_1_percent",
    "10 %": "linear_accuracy_10_percent",
    "100 %": "linear_accuracy",
}
FEW = 6  # cells with another version of torch that a note names one by one


class Table(str):
    """A table as Markdown text, with its cells: the first column is aligned left, the others right.

    A table without rows is "".
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __new__(cls, header: Sequence[str], rows: Sequence[Sequence[str]]) -> "Table":
        """Make the text."""
        lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows] if rows else []
        table = super().__new__(cls, "".join("| " + " | ".join(line) + " |\n" for line in lines))
        table.header, table.rows = header, rows
        return table


def by_augmentation(header: Sequence[str], rows: Sequence[Sequence[str]], augmentations: Sequence[str]) -> Table:
    """Return a table whose second column, the augmentation, is left out if there is only one."""
    if len(augmentations) > 1:
        return Table(header, rows)
    return Table([header[0], *header[2:]], [[row[0], *row[2:]] for row in rows])


def plus_minus(value: Spread | None, digits: int = 1) -> str:
    """Return mean ± standard deviation, the mean alone for one seed, "" for no value."""
    if value is None:
        return ""
    return f"{value.mean:.{digits}f}" + (f" ± {value.std:.{digits}f}" if value.n > 1 else "")


def interval(value: Spread) -> str:
    """Return the signed bounds of the 95 % interval, "" for one seed."""
    return f"{value.mean - value.half:+.1f} to {value.mean + value.half:+.1f}" if value.n > 1 else ""


def signed(value: Spread) -> str:
    """Return the signed mean with its 95 % interval; the mean alone for one seed."""
    return f"{value.mean:+.1f}" + (f" ({interval(value)})" if value.n > 1 else "")


def heads(columns: Sequence[tuple[str, str]]) -> list[str]:
    """Return the heads of columns.

    A mix directly after its plain training goes without the method, as in the paper.
    """
    pairs = zip([None, *columns], columns, strict=False)
    return [mix_title(*right) if left == (right[0], "none") else cell_title(*right) for left, right in pairs]


def metric_table(results: pd.DataFrame, metric: str = "linear_accuracy", digits: int = 1) -> Table:
    """Return a table of one metric: data and augmentation down, baselines and trainings across.

    Accuracies have the published row under every data set of the paper, and an arrow where a cell
    learnt nothing that a linear probe can use.
    """
    shape, values, collapsed = layout(results), spreads(results, metric), spreads(results, "collapsed")
    low = not_above(results) if metric == "linear_accuracy" else []
    rows = []
    if not values:
        return Table([], [])
    for dataset, augmentation in shape.rows:
        baselines = [plus_minus(values.get((dataset, "", BASELINE, kind)), digits) for kind in shape.baselines]
        cells = [(dataset, augmentation, *column) for column in shape.columns]
        marks = [" ↓" * (cell in low) + " †" * (cell in collapsed and collapsed[cell].mean > 0) for cell in cells]
        ours = [plus_minus(values.get(cell), digits) + mark for cell, mark in zip(cells, marks, strict=True)]
        rows.append([dataset, augmentation, *baselines, *ours])
        name, row = published(dataset, augmentation, metric)
        if row:
            theirs = ["{:.1f} ± {:.1f}".format(*row[column]) if column in row else "" for column in shape.columns]
            rows.append([f"{name}, published", augmentation, *[""] * len(baselines), *theirs])
    header = ["data", "augmentation", *(BASELINES[kind] for kind in shape.baselines), *heads(shape.columns)]
    return by_augmentation(header, rows, shape.augmentations)


def epochs_table(results: pd.DataFrame) -> Table:
    """Return the epochs of every training."""
    shape, values = layout(results), spreads(results, "epochs")
    rows = [[*row, *(f"{values[(*row, *column)].mean:.0f}" for column in shape.columns)] for row in shape.rows]
    return by_augmentation(["data", "augmentation", *heads(shape.columns)], rows, shape.augmentations)


def collapse_note(results: pd.DataFrame) -> str:
    """Return what a dagger means, "" where there is none."""
    if not results[results.method != BASELINE].collapsed.any():
        return ""
    return " †: the features of at least one seed have collapsed (a spread under 0.05, see below)."


def torch_note(origins: pd.DataFrame) -> str:
    """Return a sentence that names the versions of torch, "" if all trainings have the same."""
    counts = origins["torch"].value_counts()
    if len(counts) < 2:
        return ""
    shares = ", ".join(f"{version} ({count} trainings)" for version, count in counts.sort_index().items())
    others = origins[origins["torch"] != counts.sort_index().idxmax()].groupby([*CELL, "torch"], sort=False)["seed"]
    few = [f"{' '.join(cell)}, seeds {', '.join(map(str, seeds))}: {version}" for (*cell, version), seeds in others]
    named = f" Trained with another version than most: {'; '.join(few)}." if len(few) <= FEW else ""
    return f"Mixed versions of torch: {shares}.{named}\n"


def _verdict(gain: Spread) -> str:
    if gain.n < 2:
        return "one seed: no interval"
    return ("gain" if gain.mean > 0 else "loss") if gain.decided else "undecided"


def gain_table(results: pd.DataFrame) -> Table:
    """Return what each mix adds to plain training, in points, with its interval.

    "" if there is nothing to compare.
    """
    found = gains(results)
    corrected = dict(zip(map(_key, counted(found)), holm(counted(found)), strict=True))
    rows = [
        [
            *_named(gain),
            f"{gain.points.mean:+.1f}",
            interval(gain.points),
            str(gain.points.n),
            _verdict(gain.points),
            "" if _key(gain) not in corrected else "decided" if corrected[_key(gain)] else "undecided",
        ]
        for gain in found
    ]
    header = ["data", "augmentation", "method", "mix", "gain", "95 % interval", "n", "verdict", "Holm"]
    return by_augmentation(header, rows, layout(results).augmentations)


def _key(gain: Gain) -> tuple[str, str, str, str]:
    return gain.dataset, gain.augmentation, gain.method, gain.mix


def _named(gain: Gain) -> list[str]:
    return [gain.dataset, gain.augmentation, method_title(gain.method), mix_title(gain.method, gain.mix)]


def few_labels_table(results: pd.DataFrame) -> Table:
    """Return what each mix adds when the probe has few labels, in points.

    "" if there is nothing to compare.
    """
    shares = [{_key(gain): gain for gain in gains(results, metric)} for metric in SHARES.values()]
    rows = [[*_named(gain), *(signed(share[key].points) for share in shares)] for key, gain in shares[-1].items()]
    return by_augmentation(["data", "augmentation", "method", "mix", *SHARES], rows, layout(results).augmentations)


def group_table(results: pd.DataFrame) -> Table:
    """Return the mean gain of i-Mix over groups of comparisons; "" if there is nothing to compare.

    A group is left out if it has a single comparison, which is in the table of gains, or all.
    """
    rows = []
    datasets, by_group = layout(results).datasets, groups(gains(results))
    for (augmentation, name), found in by_group.items():
        if name != "all" and len(found) in (1, len(by_group[augmentation, "all"])):
            continue
        title = name if name in ("all", *datasets) else method_title(name)
        mean, up = over_cells(found), decided(found)
        rows.append([title, augmentation, f"{mean.mean:+.1f}", interval(mean), str(len(found)), f"{up[0]}", f"{up[1]}"])
    header = ["comparisons", "augmentation", "mean gain", "95 % interval", "number", "gains", "losses"]
    return by_augmentation(header, rows, layout(results).augmentations)


def headline(results: pd.DataFrame) -> str:
    """Return the answer to the paper's main question in one sentence, whatever it is.

    "" with nothing to compare.
    """
    found = {name: group for (name, which), group in groups(gains(results)).items() if which == "all"}
    parts = []
    for name, text in (("clean", "without augmentation"), ("augmented", "with augmentation")):
        if name in found:
            group, mean = found[name], over_cells(found[name])
            up, down = decided(group)
            bounds = f" ({interval(mean)})" if interval(mean) else ""
            parts.append(
                f"{text} i-Mix adds {mean.mean:+.1f} points on average{bounds}: {up} of {len(group)} comparisons "
                f"gain, {down} lose, {len(group) - up - down} undecided"
            )
    sentence = "; ".join(parts)
    return f"**{sentence[0].upper()}{sentence[1:]}.**\n" if sentence else ""


def unlabelled_note(results: pd.DataFrame) -> str:
    """Return a sentence that names the data sets without labels; "" if there are none."""
    names = [name for name, found in results.groupby("dataset", sort=False) if found["linear_accuracy"].isna().all()]
    return f"No labels of two or more classes, and so no accuracies: {', '.join(names)}.\n" if names else ""


def floor_note(results: pd.DataFrame) -> str:
    """Return what the arrow of a cell means, and how many cells have one; "" if there are none."""
    low = not_above(results)
    of = len(results[results.method != BASELINE].groupby(CELL))
    better = "the better of raw inputs and an untrained encoder"
    return f"↓: on average not above {better} ({len(low)} of {of} cells).\n" if low else ""


def _origin(card: Mapping[str, Any]) -> str:
    """Return where the rows come from.

    An archive is named with its checksum, and whether that is the official one.
    """
    source = card["source"]
    if "checksum" not in source:  # no archive
        return card["origin"]
    verdict = {True: " (official)", False: " (not the official archive)", None: ""}[source.get("official")]
    unchecked = "" if source.get("verified", True) else ", unchecked"
    return f"{card['origin']}, {source['checksum'].replace(':', ' ')[:19]}…{verdict}{unchecked}"


def data_table(cards: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the size, shape and origin of each data set."""
    rows = []
    for dataset, card in cards.items():
        count, carved = card["rows"], card["carved"]
        rows.append(
            [
                dataset,
                f"{count['train'] + count['validation'] * carved:,}",
                f"{count['validation']:,} ({'of them' if carved else 'further'})",
                f"{count['test']:,}",
                str(len(card["classes"])),
                f"{' × '.join(map(str, card['shape']))} {card['dtype']}",
                _origin(card),
            ]
        )
    return Table(["data", "train", "validation", "test", "classes", "row", "source"], rows)


def supervised_note(results: pd.DataFrame) -> str:
    """Return a sentence on comparisons with labels, which no count includes.

    "" if there are none.
    """
    if all(gain.method != SUPERVISED for gain in gains(results)):
        return ""
    return "Trainings with labels have a row, but are not counted."
