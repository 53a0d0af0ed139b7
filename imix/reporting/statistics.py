"""Average metrics over seeds and compare mixing with plain training, seed by seed."""

import math
from typing import Any, NamedTuple

import pandas as pd
from scipy.special import stdtr, stdtrit
from statsmodels.stats.multitest import multipletests

from imix.reporting.titles import BASELINE, SUPERVISED

CELL = ["dataset", "augmentation", "method", "mix"]  # the columns that name a cell; see `titles.BASELINE`, too
MOST_BEST = 4  # data sets up to which metrics.json has the best accuracy of each


class Spread(NamedTuple):
    """A mean over n values, their standard deviation, and half its 95 % interval (Student's t).

    It has nothing to do with the spread of features, which is the metric ``feature_std``.
    """

    mean: float
    std: float
    half: float
    n: int

    @property
    def low(self) -> float:
        """The lower end of the interval; the mean for one value."""
        return self.mean - (self.half if self.n > 1 else 0.0)

    @property
    def high(self) -> float:
        """The upper end of the interval; the mean for one value."""
        return self.mean + (self.half if self.n > 1 else 0.0)

    @property
    def decided(self) -> bool:
        """Whether the interval excludes zero.

        Seeds that agree to the last digit give no interval.
        """
        return self.std > 0 and abs(self.mean) > self.half


class Gain(NamedTuple):
    """The points that a mix adds to plain training."""

    dataset: str
    augmentation: str
    method: str
    mix: str
    points: Spread


class Layout(NamedTuple):
    """What a table of results contains, in the order of its rows."""

    datasets: list[str]
    augmentations: list[str]
    baselines: list[str]
    columns: list[tuple[str, str]]  # method and mix of every training, the supervised ones first

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Data set and augmentation of every row of a table."""
        return [(dataset, augmentation) for dataset in self.datasets for augmentation in self.augmentations]

    @property
    def methods(self) -> list[str]:
        """The methods that train without labels."""
        return list(dict.fromkeys(method for method, _ in self.columns if method != SUPERVISED))


def spread(values: "pd.Series[float]") -> Spread:
    """Return mean, sample standard deviation and interval; the last two are NaN for one value."""
    n = len(values)
    std = float(values.std(ddof=1)) if n > 1 else math.nan
    half = float(stdtrit(n - 1, 0.975)) * std / math.sqrt(n) if n > 1 else math.nan
    return Spread(float(values.mean()), std, half, n)


def spreads(results: pd.DataFrame, metric: str) -> dict[tuple[str, str, str, str], Spread]:
    """Return one metric of every cell over its seeds, by data set, augmentation, method and mix.

    Cells of a data set without labels have no accuracies and are left out.
    """
    return {cell: spread(values) for cell, values in results.dropna(subset=metric).groupby(CELL, sort=False)[metric]}


def layout(results: pd.DataFrame) -> Layout:
    """Return what the results contain. Orders are those of the rows, which are the grid's."""
    trained = results[results.method != BASELINE]
    columns = list(trained[["method", "mix"]].drop_duplicates().itertuples(index=False, name=None))
    return Layout(
        list(results.dataset.unique()),
        list(trained.augmentation.unique()),
        list(results[results.method == BASELINE].mix.unique()),
        sorted(columns, key=lambda column: column[0] != SUPERVISED),
    )


def gains(results: pd.DataFrame, metric: str = "linear_accuracy") -> list[Gain]:
    """Return what every mix adds to plain training of the same data, augmentation, method and seed.

    Both trainings of a pair share their first weights, order of rows and views. So the interval is
    that of the paired differences, one per seed.
    """
    cells = results[results.method != BASELINE].pivot_table(
        index=["dataset", "augmentation", "method", "seed"], columns="mix", values=metric, sort=False
    )
    if "none" not in cells.columns:
        return []
    differences = cells.drop(columns="none").sub(cells["none"], axis="index")
    found = [
        Gain(*cell, mix, spread(points.dropna()))
        for cell, chosen in differences.groupby(level=["dataset", "augmentation", "method"], sort=False)
        for mix, points in chosen.items()
    ]
    return [gain for gain in found if gain.points.n]


def counted(found: list[Gain]) -> list[Gain]:
    """Return the gains that a summary counts: those of training without labels."""
    return [gain for gain in found if gain.method != SUPERVISED]


def holm(found: list[Gain]) -> list[bool]:
    """Return which gains or losses are decided after Holm's correction for their number.

    P values are those of paired t-tests; gains without an interval are not decided.
    """
    t = [
        abs(gain.points.mean) / (gain.points.std / math.sqrt(gain.points.n)) if gain.points.std else 0 for gain in found
    ]
    p = [
        2 * float(stdtr(gain.points.n - 1, -value)) if gain.points.n > 1 else 1.0
        for gain, value in zip(found, t, strict=True)
    ]
    return list(multipletests(p, alpha=0.05, method="holm")[0]) if found else []


def over_cells(found: list[Gain]) -> Spread:
    """Return the mean gain over cells with its interval, whose unit is the cell.

    A single cell's interval is that over its seeds.

    In a balanced design this is the interval of a mixed model with a random effect per cell: the
    spread of the cells' means has the variation of cells and that of seeds in it.
    """
    return found[0].points if len(found) == 1 else spread(pd.Series([gain.points.mean for gain in found]))


def groups(found: list[Gain]) -> dict[tuple[str, str], list[Gain]]:
    """Return the gains of i-Mix by augmentation and group: all, each method, each data set."""
    chosen = [gain for gain in counted(found) if gain.mix == "imix"]
    by_group: dict[tuple[str, str], list[Gain]] = {}
    for key in (lambda gain: "all", lambda gain: gain.method, lambda gain: gain.dataset):
        for gain in chosen:
            by_group.setdefault((gain.augmentation, key(gain)), []).append(gain)
    return by_group


def not_above(results: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    """Return the trained cells whose mean is not above the better of the two baselines.

    These are raw inputs and an untrained encoder. Such a cell learnt nothing that a linear probe
    can use.
    """
    values = spreads(results, "linear_accuracy")
    floor: dict[str, float] = {}
    for (dataset, _, method, _), value in values.items():
        if method == BASELINE:
            floor[dataset] = max(value.mean, floor.get(dataset, 0.0))
    return [cell for cell, value in values.items() if cell[2] != BASELINE and value.mean <= floor.get(cell[0], -1)]


def mean_gain(found: list[Gain]) -> float:
    """Return the mean over all comparisons, in points; never -0.0."""
    return round(sum(gain.points.mean for gain in found) / len(found), 3) + 0.0


def decided(found: list[Gain]) -> tuple[int, int]:
    """Return how many gains, and how many losses, have an interval that excludes zero."""
    signs = [gain.points.mean > 0 for gain in found if gain.points.decided]
    return sum(signs), len(signs) - sum(signs)


def summary(results: pd.DataFrame) -> dict[str, Any]:
    """Return at most ten values for `dvc metrics show`.

    They are the mean gain per augmentation, the counts of comparisons, and, for at most four data
    sets, the accuracy of the best cell of a data set (mean over seeds) among those trained without
    labels.
    """
    found, shape = counted(gains(results)), layout(results)
    by_augmentation = {name: [gain for gain in found if gain.augmentation == name] for name in shape.augmentations}
    up, down = decided(found)
    values: dict[str, Any] = {
        "mean_gain": {name: mean_gain(chosen) for name, chosen in by_augmentation.items() if chosen},
        "decided": {"gains": up, "losses": down},
        "comparisons": len(found),
    }
    if len(shape.datasets) <= MOST_BEST:
        unlabelled = spreads(results[~results.method.isin([BASELINE, SUPERVISED])], "linear_accuracy")
        values["best"] = {
            dataset: round(max(value.mean for cell, value in unlabelled.items() if cell[0] == dataset), 3)
            for dataset in shape.datasets
            if any(cell[0] == dataset for cell in unlabelled)
        }
    return values
