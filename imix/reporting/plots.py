"""The plots of a study: gains with intervals, training curves, projections.

Files are PNG and SVG, the same bytes every time.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import pandas as pd

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from imix.files import replacing
from imix.reporting.statistics import CELL, Gain, gains, layout
from imix.reporting.titles import SUPERVISED, cell_title, seeds_text

# Paul Tol's "bright", safe for the colour-blind
PALETTE = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
GREY = "#555555"  # of trainings with labels
MARKERS = {"none": "x", "imix": "o", "icutmix": "s"}
LINES = {"none": ":", "imix": "-", "icutmix": "--"}


def write(figure: Figure, path: Path) -> None:
    """Write ``path`` as .png and .svg, without dates or random names, and close the figure."""
    with matplotlib.rc_context({"svg.hashsalt": "imix"}):
        for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None})):
            with replacing(path.with_suffix(suffix)) as temporary:
                figure.savefig(temporary, format=suffix[1:], dpi=120, metadata=metadata)
    plt.close(figure)


def colours(methods: Sequence[str]) -> dict[str, str]:
    """Return the colour of each method, by its place among the methods.

    Training with labels is grey.
    """
    places = zip(dict.fromkeys(method for method in methods if method != SUPERVISED), itertools.cycle(PALETTE))
    return dict(places) | {SUPERVISED: GREY}


def titled(dataset: str, augmentation: str, augmentations: Sequence[str]) -> str:
    """Return a title of a data set, with its augmentation if there are several."""
    return f"{dataset}, {augmentation}" if len(augmentations) > 1 else dataset


def gains_table(results: pd.DataFrame) -> pd.DataFrame:
    """Return a row per comparison for `dvc plots`: cell, ``line``, mean gain, interval, n."""
    rows = [
        {**dict(zip(CELL, gain[:4], strict=True)), "line": f"{gain.augmentation}: {cell_title(gain.method, gain.mix)}"}
        | {"mean": gain.points.mean, "low": gain.points.low, "high": gain.points.high, "n": gain.points.n}
        for gain in gains(results)
    ]
    return pd.DataFrame(rows, columns=[*CELL, "line", "mean", "low", "high", "n"]).round(3)


def curves_table(histories: pd.DataFrame) -> pd.DataFrame:
    """Return a row per cell and epoch for `dvc plots`: cell, panel ("group"), means over seeds."""
    means = histories.groupby([*CELL, "epoch"], sort=False)[["loss", "knn_validation"]].mean().round(4).reset_index()
    means.insert(0, "group", means["dataset"] + ", " + means["augmentation"])
    return means


def plot_gains(results: pd.DataFrame) -> Figure:
    """Plot the points gained over plain training: a line per comparison, a panel per data set."""
    found, shape = gains(results), layout(results)
    datasets = list(dict.fromkeys(gain.dataset for gain in found)) or shape.datasets[:1]
    augmentations = sorted({gain.augmentation for gain in found}, reverse=True)  # clean first
    lines = list(dict.fromkeys((name, gain.method, gain.mix) for name in augmentations for gain in found))
    size = (2.2 + 2.6 * len(datasets), 1.7 + 0.3 * len(lines))
    shared = {"sharex": True, "sharey": True, "squeeze": False}  # points are points, whatever the data set
    figure, panels = plt.subplots(1, len(datasets), figsize=size, layout="constrained", **shared)
    for panel, dataset in zip(panels[0], datasets, strict=True):
        _gains_panel(panel, [gain for gain in found if gain.dataset == dataset], lines, colours(shape.methods))
        panel.set_title(dataset, fontsize=10)
    several = len(augmentations) > 1
    labels = [(f"{name}: " if several else "") + cell_title(*cell) for name, *cell in lines]
    panels[0, 0].set_yticks(range(len(lines)), labels)
    panels[0, 0].invert_yaxis()
    figure.supxlabel("gain in linear accuracy over plain training, points", fontsize=10)
    n = results["seed"].nunique()
    what = f"mean and 95 % interval, {seeds_text(n)}, paired" if n > 1 else f"{seeds_text(n)}: no interval"
    title = f"What mixing adds: {what}" if found else "No mix with a plain training to compare with"
    figure.suptitle(title, fontsize=10)
    return figure


def _gains_panel(panel: Axes, found: list[Gain], lines: list[tuple[str, str, str]], palette: dict[str, str]) -> None:
    """Draw the gains of one data set in their lines, and a rule between augmentations."""
    for gain in found:
        place, colour = lines.index((gain.augmentation, gain.method, gain.mix)), palette[gain.method]
        half = gain.points.half if gain.points.n > 1 else 0
        filled = colour if gain.points.decided else "white"  # hollow: the interval includes zero
        panel.errorbar(
            gain.points.mean,
            place,
            xerr=half,
            color=colour,
            marker=MARKERS[gain.mix],
            markerfacecolor=filled,
            capsize=3,
        )
    panel.axvline(0, color="0.5", linewidth=0.8)
    for place, (above, below) in enumerate(itertools.pairwise(lines)):
        if above[0] != below[0]:
            panel.axhline(place + 0.5, color="0.85", linewidth=0.8, zorder=0)
    panel.margins(y=0.2 if len(lines) < 4 else 0.05)


def draw_curves(panel: Axes, histories: pd.DataFrame, column: str, palette: Mapping[str, str]) -> None:
    """Draw a column of histories, a line per method and mix: mean and range over seeds."""
    for (method, mix), history in histories.groupby(["method", "mix"], sort=False):
        over = history.dropna(subset=[column]).groupby("epoch")[column]
        marker = "." if len(over) <= 20 else ""  # a line through one point is invisible
        style = {"color": palette[method], "marker": marker, "label": cell_title(method, mix)}
        panel.plot(over.mean(), LINES[mix], **style)
        panel.fill_between(over.mean().index, over.min(), over.max(), color=palette[method], alpha=0.12, lw=0)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_xlabel("epoch")


def plot_curves(histories: pd.DataFrame) -> Figure:
    """Plot loss and kNN accuracy over epochs, a row per data set and augmentation.

    Lines are means over seeds, bands go from the least to the greatest.
    """
    rows = list(histories[["dataset", "augmentation"]].drop_duplicates().itertuples(index=False, name=None))
    augmentations, palette = histories["augmentation"].unique(), colours(list(histories["method"].unique()))
    figure, grid = plt.subplots(len(rows), 2, figsize=(10, 3 * len(rows)), squeeze=False, layout="constrained")
    for panels, (dataset, augmentation) in zip(grid, rows, strict=True):
        row = histories[(histories.dataset == dataset) & (histories.augmentation == augmentation)]
        for panel, column in zip(panels, ("loss", "knn_validation"), strict=True):
            draw_curves(panel, row, column, palette)
        title, n = titled(dataset, augmentation, augmentations), row["seed"].nunique()
        for panel, what in zip(panels, ("training loss", "kNN on validation rows, %"), strict=True):
            panel.set_title(f"{title}: {what} (n = {n})", fontsize=10)
    figure.legend(*grid[0][1].get_legend_handles_labels(), loc="outside lower center", fontsize=8, ncols=4)
    return figure
