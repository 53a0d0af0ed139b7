"""The plots of reports/: gains with intervals, and training curves. PNG and SVG, byte for byte the same each time."""

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from imix.files import replacing
from imix.reporting.results import cell_name, gains, seeds

COLOURS = {"npair": "#4477aa", "moco": "#228833", "byol": "#cc6677", "supervised": "#555555"}
MARKERS = {"imix": "o", "icutmix": "s"}
LINES = {"none": ":", "imix": "-", "icutmix": "--"}


def write(figure: Figure, path: Path) -> None:
    """Write ``path`` with the endings .png and .svg, without dates or random names."""
    with matplotlib.rc_context({"svg.hashsalt": "imix"}):
        for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None})):
            with replacing(path.with_suffix(suffix)) as temporary:
                figure.savefig(temporary, format=suffix[1:], dpi=120, metadata=metadata)
    plt.close(figure)


def plot_gains(results: pd.DataFrame) -> Figure:
    """Points gained over plain training, one line a comparison, with 95 % intervals over seeds."""
    table = gains(results)
    height = 1.6 + 0.32 * len(table)
    figure, axes = plt.subplots(figsize=(7, height), layout="constrained")
    labels = []
    for place, (dataset, method, mix, gain) in enumerate(table):
        axes.errorbar(gain.mean, place, xerr=gain.half, color=COLOURS[method], marker=MARKERS[mix], capsize=3)
        labels.append(f"{dataset}  {cell_name(method, mix)}")
    axes.axvline(0, color="0.5", linewidth=0.8)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlabel("gain in linear accuracy over plain training, points")
    n = results["seed"].nunique()
    axes.margins(y=0.2 if len(labels) < 4 else 0.05)
    shown = f"mean and 95 % interval, {seeds(n)}, paired" if n > 1 else f"{seeds(n)}: no interval"
    figure.suptitle(f"What mixing adds: {shown}" if table else "No plain training to compare with, or no other", fontsize=10)
    return figure


def plot_curves(histories: pd.DataFrame) -> Figure:
    """Loss and kNN accuracy on validation rows over epochs, a row per data set; mean over seeds, band from least to greatest."""
    datasets = list(histories["dataset"].unique())
    figure, grid = plt.subplots(len(datasets), 2, figsize=(10, 3 * len(datasets)), squeeze=False, layout="constrained")
    for axes, dataset in zip(grid, datasets, strict=True):
        rows = histories[histories["dataset"] == dataset]
        for (method, mix), history in rows.groupby(["method", "mix"], sort=False):
            for axis, figure_name in zip(axes, ("loss", "knn_validation"), strict=True):
                over = history.dropna(subset=[figure_name]).groupby("epoch")[figure_name]
                marker = "." if len(over) <= 20 else ""  # few points: a line may be none
                axis.plot(over.mean(), LINES[mix], marker=marker, color=COLOURS[method], label=cell_name(method, mix))
                axis.fill_between(over.mean().index, over.min(), over.max(), color=COLOURS[method], alpha=0.12, linewidth=0)
        n = rows["seed"].nunique()
        axes[0].set(xlabel="epoch")
        axes[0].set_title(f"{dataset}: training loss (n = {n})", fontsize=10)
        for axis in axes:
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[1].set(xlabel="epoch")
        axes[1].set_title(f"{dataset}: kNN on validation rows, % (n = {n})", fontsize=10)
    figure.legend(*grid[0][1].get_legend_handles_labels(), loc="outside lower center", fontsize=8, ncols=4)
    return figure


def plot_projections(panels: dict[tuple[str, str], np.ndarray], labels: np.ndarray, classes: list[str], title: str) -> Figure:
    """Points (N, 2) of every method and mix, a panel each, coloured by class (N,)."""
    mixes = list(dict.fromkeys(mix for _, mix in panels))
    rows = len(panels) // len(mixes)
    figure, grid = plt.subplots(rows, len(mixes), figsize=(4 * len(mixes), 3.6 * rows), squeeze=False, layout="constrained")
    palette = plt.get_cmap("tab20")
    for axis, ((method, mix), points) in zip(grid.flat, panels.items(), strict=True):
        for number, name in enumerate(classes):
            here = points[labels == number]
            if not len(here):  # silence has no test rows
                continue
            axis.scatter(here[:, 0], here[:, 1], s=4, color=palette(number % 20), label=name)
        axis.set_title(cell_name(method, mix), fontsize=10)
        axis.set_xticks([])
        axis.set_yticks([])
    figure.suptitle(f"{title}, n = {len(labels)} rows", fontsize=10)
    if len(classes) <= 20:
        figure.legend(*grid.flat[0].get_legend_handles_labels(), loc="outside lower center", fontsize=8, ncols=6, markerscale=3)
    return figure
