"""Draw the test features of a data set's encoders in two dimensions."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from imix import checkpoints, dataset, domains, features, paths, plugins, runtime
from imix.files import write_bytes, write_json
from imix.progress import Report
from imix.reporting.results import csv_bytes, read_csv, read_json, required
from imix.reporting.titles import cell_title

Column = tuple[str, str, str]  # augmentation, method, mix
SHOWN = 300  # points of an encoder on the page


def embed(slot: int, report: Report, encoder: Path, name: str, asked: dict[str, Any], target: Path) -> None:
    """Write the t-SNE (N, 2) of an encoder's test features, one task of `imix.running.run`.

    Args:
        encoder: its file. name: of the data set. asked: rows, perplexity and seed. target: an .npy
            file.
    """
    device = runtime.configure(slot)  # one thread: with more, t-SNE adds up in another order every time
    data = dataset.load(paths.tensors(name), device)
    network, _ = checkpoints.load(encoder, data)
    views = domains.make_views(data.kind, plugins.find("views", data.kind).NEUTRAL, data)
    found = features.extract(network, features.random_subset(data.test, asked["rows"]), views.clean, device)
    np.save(target, project(found.cpu().numpy(), asked["perplexity"], asked["seed"]))


def project(features: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """Return the t-SNE (N, 2) of features (N, D).

    ``perplexity`` is cut to a third of N, which t-SNE needs.
    """
    from sklearn.manifold import TSNE

    perplexity = min(perplexity, len(features) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(features)


def write_points(folder: Path, points: dict[Column, np.ndarray], labels: np.ndarray, classes: list[str]) -> None:
    """Write points.csv, at most `SHOWN` points of every encoder for the page, and classes.json."""
    tables = []
    for (augmentation, method, mix), places in points.items():
        cell = {"augmentation": augmentation, "method": method, "mix": mix, "label": labels[:SHOWN]}
        tables.append(pd.DataFrame(cell | {"x": places[:SHOWN, 0].round(2), "y": places[:SHOWN, 1].round(2)}))
    write_bytes(folder / "points.csv", csv_bytes(pd.concat(tables)))
    write_json(folder / "classes.json", {"classes": classes, "rows": min(SHOWN, len(labels))})


def read_points(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return what `write_points` wrote: the points and the names of the classes.

    Raises:
        UserError: missing or damaged.
    """
    path = folder / "classes.json"
    names = required(read_json(path), "classes", path)
    return read_csv(folder / "points.csv", ("augmentation", "method", "mix", "label", "x", "y")), names


def plot(points: dict[Column, np.ndarray], labels: np.ndarray, classes: list[str], title: str) -> Figure:
    """Plot the points (N, 2) of every encoder in a panel, coloured by class (N,).

    Methods are rows; augmentations and their mixes are columns.
    """
    methods = list(dict.fromkeys(method for _, method, _ in points))
    columns = list(dict.fromkeys((augmentation, mix) for augmentation, _, mix in points))
    several = len({augmentation for augmentation, _ in columns}) > 1
    size = (4 * len(columns), 3.6 * len(methods))
    figure, grid = plt.subplots(len(methods), len(columns), figsize=size, squeeze=False, layout="constrained")
    for panels, method in zip(grid, methods, strict=True):
        for panel, (augmentation, mix) in zip(panels, columns, strict=True):
            _panel(panel, points[augmentation, method, mix], labels, classes)
            panel.set_title(cell_title(method, mix) + (f", {augmentation}" if several else ""), fontsize=10)
    figure.suptitle(f"{title}, n = {len(labels)} rows", fontsize=10)
    if len(classes) <= 20:
        legend = grid[0, 0].get_legend_handles_labels()
        figure.legend(*legend, loc="outside lower center", fontsize=8, ncols=6, markerscale=3)
    return figure


def _panel(panel: Axes, points: np.ndarray, labels: np.ndarray, classes: list[str]) -> None:
    palette = plt.get_cmap("tab20")
    for number, name in enumerate(classes):
        chosen = points[labels == number]
        if len(chosen):  # a class can have no test rows, as silence has
            panel.scatter(chosen[:, 0], chosen[:, 1], s=4, color=palette(number % 20), label=name)
    panel.set_xticks([])
    panel.set_yticks([])
