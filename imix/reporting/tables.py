"""The tables of reports/results.md and of the README, as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from imix.reporting.published import TABLE_1
from imix.reporting.results import BASELINE_NAMES, METHOD_NAMES, Spread, cell, cell_name, gains, mix_name, seeds
from imix.settings import Grid


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column to the left, the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def plus_minus(value: Spread, digits: int = 1) -> str:
    """Mean ± standard deviation, the mean alone for one seed."""
    return f"{value.mean:.{digits}f}" + (f" ± {value.std:.{digits}f}" if value.n > 1 else "")


def columns(grid: Grid) -> list[tuple[str, str]]:
    """Method and mix of the table's columns, as in the paper: a method, then its mixes."""
    return [(method, mix) for method in grid.methods for mix in grid.mixes]


def heads(grid: Grid) -> list[str]:
    """Heads of the columns: i-Mix beside its plain training goes without the method's name, as in the paper."""
    pairs = zip([None, *columns(grid)], columns(grid), strict=False)
    return [mix_name(*column) if column[1] == "imix" and left == (column[0], "none") else cell_name(*column) for left, column in pairs]


def main_table(results: pd.DataFrame, grid: Grid, figure: str = "linear_accuracy", digits: int = 1) -> str:
    """Data sets down, baselines and methods across; the published row under data sets that the paper has, and under small ones."""
    rows = []
    for dataset in grid.datasets:
        baselines = [plus_minus(cell(results, dataset, "baseline", kind, figure), digits) for kind in BASELINE_NAMES]
        ours = [
            plus_minus(cell(results, dataset, *column, figure), digits) + " †" * bool(cell(results, dataset, *column, "collapsed").mean)
            for column in columns(grid)
        ]
        rows.append([dataset, *baselines, *ours])
        name = dataset.removesuffix("_small")  # the same source, but the paper's rows, encoder and epochs
        if figure in ("linear_accuracy", "linear_accuracy_test_selected") and name in TABLE_1:  # test-selected as published
            published = [TABLE_1[name].get(column) for column in columns(grid)]
            rows.append([f"{name}, published", *[""] * len(BASELINE_NAMES), *(f"{p[0]:.1f} ± {p[1]:.1f}" if p else "" for p in published)])
    return markdown(["data", *BASELINE_NAMES.values(), *heads(grid)], rows)


def collapse_note(results: pd.DataFrame) -> str:
    """What the daggers mean, where there are any."""
    trained = results[results.method != "baseline"]
    return " †: the features of at least one seed have collapsed (a spread under 0.05, below)." if trained.collapsed.any() else ""


def gain_table(results: pd.DataFrame) -> str:
    """What mixing adds to plain training, in points, with its interval; empty where there is nothing to compare."""

    def verdict(gain: Spread) -> str:
        if gain.n < 2:
            return "one seed: no interval"
        return ("gain" if gain.mean > 0 else "loss") if gain.decided else "undecided"

    rows = []
    for dataset, method, mix, gain in gains(results):
        interval = f"{gain.mean - gain.half:+.1f} to {gain.mean + gain.half:+.1f}" if gain.n > 1 else ""
        rows.append([dataset, METHOD_NAMES[method], mix_name(method, mix), f"{gain.mean:+.1f}", interval, str(gain.n), verdict(gain)])
    return markdown(["data", "method", "mix", "gain", "95 % interval", "n", ""], rows) if rows else ""


def gain_sentence(results: pd.DataFrame) -> str:
    """How many cells gained, lost, or are undecided; counted, not judged. Empty where there is nothing to compare."""
    found = [gain for *_, gain in gains(results)]
    if not found:
        return ""
    up, down = (sum(gain.decided and gain.mean * sign > 0 for gain in found) for sign in (1, -1))
    mean = round(sum(gain.mean for gain in found) / len(found), 1) + 0.0  # not -0.0
    return (
        f"Comparisons: {len(found)}. Gains whose 95 % interval excludes zero: {up}. Losses: {down}. Undecided: {len(found) - up - down}. "
        f"Mean over all: {mean:+.1f} points.\n"
    )


def data_table(cards: Mapping[str, Mapping[str, Any]]) -> str:
    """What each data set was made of; an archive that is not the official one is shown as such."""
    rows = []
    for dataset, card in cards.items():
        source, count = card["source"], card["rows"]
        origin = "carried by a package" if "file" not in source else f"{source['file']}, {source['checksum'].replace(':', ' ')[:19]}…"
        verdict = {True: " (official)", False: " (not the official archive)", None: ""}[source.get("official")]
        unchecked = "" if source.get("verified", True) else ", unchecked"
        total = count["train"] + count["validation"] * card["carved"]
        shape = " × ".join(map(str, card["shape"]))
        rows.append(
            [
                dataset,
                f"{total:,}",
                f"{count['validation']:,} ({'of them' if card['carved'] else 'further'})",
                f"{count['test']:,}",
                str(len(card["classes"])),
                f"{shape} {card['dtype']}",
                origin + verdict + unchecked,
            ]
        )
    return markdown(["data", "train", "validation", "test", "classes", "row", "source"], rows)


def transfer_table(transfers: pd.DataFrame, grid: Grid) -> str:
    """Pairs of data sets down, methods across."""
    rows = []
    for (source, target), table in transfers.groupby(["pretrained_on", "dataset"], sort=False):
        rows.append([f"{source} to {target}", *(plus_minus(cell(table, target, *column)) for column in columns(grid))])
    return markdown(["data", *heads(grid)], rows)


def results_page(results: pd.DataFrame, transfers: pd.DataFrame, grid: Grid, cards: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole of reports/results.md; nothing in it depends on how long anything took."""
    trained = [("baseline", "supervised"), *columns(grid)]
    epochs = [[dataset, *(f"{cell(results, dataset, *column, 'epochs').mean:.0f}" for column in trained)] for dataset in grid.datasets]
    tables = {
        "Linear evaluation": (
            "Top-1 accuracy on the test rows in %, mean ± standard deviation. The probe's learning rate is chosen "
            "on validation rows; raw inputs, an untrained encoder, and one trained with the labels of "
            "the training rows (without the validation rows) stand under the same probe." + collapse_note(results),
            main_table(results, grid),
        ),
        "What i-Mix adds": (
            "Points of linear accuracy over plain training with the same seed, mean and 95 % interval of the paired "
            "differences (Student's t).",
            "\n".join(filter(None, [gain_table(results), gain_sentence(results)])),
        ),
        "Rate chosen on the test rows": (
            "The published protocol: the best of the probe's rates by test accuracy. Optimistic; what the published figures are to be "
            "compared with.",
            main_table(results, grid, "linear_accuracy_test_selected"),
        ),
        "Transfer": (
            "Linear evaluation on a data set that the encoder was not pretrained on, test top-1 in %.",
            transfer_table(transfers, grid) if len(transfers) else "",
        ),
        "Balanced accuracy": ("Mean recall over classes, in %.", main_table(results, grid, "balanced_accuracy")),
        "kNN": ("Cosine, majority vote, in %; k as in `probe.<dataset>.neighbours`.", main_table(results, grid, "knn_accuracy")),
        "Training rows": (
            "The chosen probe's accuracy on the rows it was trained on, in %: the distance to the test rows is what "
            "a regulariser should narrow.",
            main_table(results, grid, "train_accuracy"),
        ),
        "Few labels": (
            "The probe trained with the labels of 1 % and of 10 % of the training rows without validation rows, at least one of each "
            "class, test accuracy in %; its rate chosen on all validation rows. (Supervised encoders have seen all those labels.)\n\n1 %:",
            main_table(results, grid, "linear_accuracy_1_percent")
            + "\n10 %:\n\n"
            + main_table(results, grid, "linear_accuracy_10_percent"),
        ),
        "Spread of the features": (
            "Standard deviation of the normalised test features, 1 = isotropic, 0 = collapsed.",
            main_table(results, grid, "feature_std", 2),
        ),
        "Effective rank of the features": (
            "exp of the entropy of the singular values of the centred test features.",
            main_table(results, grid, "effective_rank"),
        ),
        "Alignment": (
            "Mean squared distance of the normalised features of two random views of a test row, the same views for all columns; "
            "0 = views do not matter.",
            main_table(results, grid, "alignment", 2),
        ),
        "Uniformity": (
            "log of the mean over pairs of test rows of exp(-2 squared distance) of their normalised features; 0 = all the same, "
            "-4 = spread over the sphere.",
            main_table(results, grid, "uniformity", 2),
        ),
        "Fréchet distance": (
            "Between Gaussians fitted to the normalised features of training and of test rows, x 100. It also shrinks with "
            "the features' spread: an untrained encoder can have the lowest.",
            main_table(results.assign(frechet_distance=100 * results["frechet_distance"]), grid, "frechet_distance", 2),
        ),
        "Data": (
            "Rows as trained and judged on. Validation rows `of them` are training rows that choices are made on.",
            data_table(cards),
        ),
        "Epochs": ("", markdown(["data", "supervised", *heads(grid)], epochs)),
    }
    ran = f"{seeds(len(grid.seeds))} ({', '.join(map(str, grid.seeds))})"
    parts = [f"# Results\n\nStudy `{grid.name}`, made by `dvc repro`; {ran}. One row per training: [results.csv](results.csv).\n"]
    parts += [f"## {title}\n\n" + (f"{text}\n\n" if text else "") + table for title, (text, table) in tables.items() if table]
    parts.append("## Plots\n\n![Gains with 95 % intervals](gains.png)\n\n![Loss and kNN over epochs](curves.png)\n")
    return "\n".join(parts)


def readme_block(results: pd.DataFrame, grid: Grid) -> str:
    """What the README shows between its markers."""
    return (
        f"Linear evaluation, test top-1 in %, mean ± standard deviation, {seeds(len(grid.seeds))}:\n\n"
        f"{main_table(results, grid)}\n{gain_sentence(results)}"
    )
