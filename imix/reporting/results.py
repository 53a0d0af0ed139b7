"""Collect what evaluations wrote, for exactly the current grid, and average over seeds."""

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from imix.errors import UserError
from imix.settings import SUPERVISED, Grid, Transfer

BASELINE_NAMES = {"raw": "raw inputs", "untrained": "untrained", "supervised": "supervised"}
FIGURES = (
    "linear_accuracy",
    "linear_accuracy_test_selected",
    "balanced_accuracy",
    "knn_accuracy",
    "linear_accuracy_validation",
    "train_accuracy",
    "linear_accuracy_1_percent",
    "linear_accuracy_10_percent",
    "feature_std",
    "collapsed",
    "effective_rank",
    "alignment",
    "uniformity",
    "frechet_distance",
    "probe_rate",
)
METHOD_NAMES = {"npair": "N-pair", "moco": "MoCo v2", "byol": "BYOL", "supervised": "supervised"}
MIX_NAMES = {"none": "plain", "imix": "+ i-Mix", "icutmix": "+ i-CutMix"}
LABELLED_MIX_NAMES = {"none": "plain", "imix": "+ MixUp", "icutmix": "+ CutMix"}  # of training with labels, where they began


def mix_name(method: str, mix: str) -> str:
    """What mixing is called with a method."""
    return (LABELLED_MIX_NAMES if method == "supervised" else MIX_NAMES)[mix]


def cell_name(method: str, mix: str) -> str:
    """A method with its mixing."""
    return METHOD_NAMES[method] if mix == "none" else f"{METHOD_NAMES[method]} {mix_name(method, mix)}"


def seeds(count: int) -> str:
    """How many there are, in words."""
    return f"n = {count} seed{'s' * (count != 1)}"


class Spread(NamedTuple):
    """A mean over n values, with their standard deviation and the half width of the 95 % interval (Student's t)."""

    mean: float
    std: float
    half: float
    n: int

    @property
    def decided(self) -> bool:
        """Whether the interval excludes zero; seeds that agree to the last digit leave no interval to judge by."""
        return self.std > 0 and abs(self.mean) > self.half


def spread(values: "pd.Series[float]") -> Spread:
    """Mean, sample standard deviation and interval; NaN spreads for one value."""
    n = len(values)
    std = float(values.std(ddof=1)) if n > 1 else math.nan
    return Spread(float(values.mean()), std, float(stdtrit(n - 1, 0.975)) * std / math.sqrt(n) if n > 1 else math.nan, n)


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """Read what a stage wrote, a block with at least these keys.

    Raises:
        UserError: missing or damaged.
    """
    try:
        found = json.loads(path.read_text())
        missing = [key for key in keys if key not in found]
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(path, error) from None
    if missing:
        raise UserError(f"{path}: {missing[0]} is missing; `dvc repro -f` of its stage makes it again")
    return found


def read_history(path: Path) -> pd.DataFrame:
    """Read what a training wrote of its epochs.

    Raises:
        UserError: missing or damaged.
    """
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: cannot be read ({error}); `dvc repro` makes it")


def collect(
    grid: Grid, metrics: Callable[..., Path], trainings: Callable[..., Path]
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, dict[str, Any]]]:
    """One row per data set, method, mix and seed of the grid, baselines first; all histories, one row an epoch; data cards.

    Args:
        grid: what to read; other files may lie there.
        metrics, trainings: from (dataset, method, mix, seed) to the metrics file and the training's folder.
    """
    rows, histories, cards = [], [], {}
    for dataset in grid.datasets:
        cells = [("baseline", kind) for kind in BASELINE_NAMES] + [(method, mix) for method in grid.methods for mix in grid.mixes]
        for method, mix in cells:
            for seed in grid.seeds:
                identity = {"dataset": dataset, "method": method, "mix": mix, "seed": seed}
                figures = read_json(metrics(*identity.values()), *FIGURES)
                row = identity | {name: figures[name] for name in FIGURES} | {"epochs": 0, "train_seconds": 0.0}
                if method != "baseline" or mix == SUPERVISED[0]:
                    folder = trainings(dataset, *(SUPERVISED if method == "baseline" else (method, mix)), seed)
                    provenance = read_json(folder / "provenance.json", "settings", "seconds", "data")
                    row |= {"epochs": provenance["settings"]["settings"]["epochs"], "train_seconds": provenance["seconds"]}
                    cards[dataset] = provenance["data"]
                    if method != "baseline":
                        histories.append(read_history(folder / "history.csv").assign(**identity))
                rows.append(row)
    return pd.DataFrame(rows), pd.concat(histories, ignore_index=True), cards


def record(grid: Grid, metrics: Callable[..., Path], trainings: Callable[..., Path], code: Path) -> dict[str, Any]:
    """What the results were made with: each data set's source, choice of rows and evaluation, the resolved settings of every cell,
    the machine, and the fingerprints of the modules that ran.
    """
    made: dict[str, Any] = {"data": {}, "evaluation": {}, "cells": {}, "machine": {}}
    for dataset in grid.datasets:
        judged = read_json(metrics(dataset, "baseline", "raw", grid.seeds[0]), "evaluation", "machine")
        made["evaluation"][dataset], made["machine"][dataset] = judged["evaluation"], judged["machine"]
        for method, mix in grid.cells():
            provenance = read_json(trainings(dataset, method, mix, grid.seeds[0]) / "provenance.json")
            made["data"][dataset] = {key: provenance["data"][key] for key in ("source", "chosen", "rows", "sha256")}
            made["cells"].setdefault(dataset, {}).setdefault(method, {})[mix] = provenance["settings"]["settings"]
    return made | {"code": read_json(code)}


def collect_transfer(grid: Grid, transfer: Transfer, files: Callable[..., Path]) -> pd.DataFrame:
    """One row per evaluation on another data set; ``files``: from (probed on, method, mix, seed, ``pretrained_on=``) to its file."""
    names = ("pretrained_on", "dataset", "method", "mix", "seed")
    rows = []
    for pair, *cell in itertools.product(transfer.pairs, grid.methods, grid.mixes, grid.seeds):
        identity = (pair.pretrained_on, pair.probed_on, *cell)
        figures = read_json(files(pair.probed_on, *cell, pretrained_on=pair.pretrained_on))
        rows.append(dict(zip(names, identity, strict=True)) | {name: figures[name] for name in FIGURES})
    return pd.DataFrame(rows, columns=[*names, *FIGURES])


def cell(results: pd.DataFrame, dataset: str, method: str, mix: str, figure: str = "linear_accuracy") -> Spread:
    """One figure of one cell over its seeds."""
    chosen = results[(results.dataset == dataset) & (results.method == method) & (results.mix == mix)]
    return spread(chosen[figure])


def gains(results: pd.DataFrame) -> list[tuple[str, str, str, Spread]]:
    """Data set, method, mix and its gain over plain training, seed by seed.

    Both trainings of a pair share weights, order of rows and views, so that the interval is that of paired differences.
    """
    table = results[results.method != "baseline"].pivot_table(
        index=["dataset", "method", "seed"], columns="mix", values="linear_accuracy", sort=False
    )
    if "none" not in table.columns:
        return []
    return [
        (dataset, method, mix, spread(values))
        for mix in table.columns.drop("none")
        for (dataset, method), values in (table[mix] - table["none"]).groupby(level=["dataset", "method"], sort=False)
    ]


def summary(results: pd.DataFrame) -> dict[str, Any]:
    """Means over seeds as nested names, for `dvc metrics show` and `dvc exp show`."""
    nested: dict[str, Any] = {}
    for (dataset, method, mix), rows in results.groupby(["dataset", "method", "mix"], sort=False):
        figures = {name: round(float(np.mean(rows[name])), 3) for name in ("linear_accuracy", "knn_accuracy")}
        nested.setdefault(dataset, {}).setdefault(method, {})[mix] = figures
    return nested
