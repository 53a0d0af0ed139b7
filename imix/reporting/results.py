"""Collect what the stages of a study wrote, for exactly the cells of its grid."""

import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pandas as pd

from imix.errors import UserError
from imix.reporting.statistics import CELL
from imix.reporting.titles import BASELINE, BASELINES, SUPERVISED

METRICS = (
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
COLUMNS = (*CELL, "seed", *METRICS, "epochs")  # of results.csv
TRANSFER_COLUMNS = ("pretrained_on", *CELL, "seed", *METRICS)  # of transfer.csv
# Data set, augmentation, method, mix: a `paths.Cell`, or the four values by themselves, since the
# cells of baselines are none of the grid's.
Cell = tuple[str, str, str, str]


class Grid(Protocol):
    """The part of the grid that a report needs; `imix.settings.study.Grid` has it."""

    name: str
    datasets: Sequence[str]
    augmentation: Sequence[str]
    methods: Sequence[str]
    mixes: Sequence[str]
    supervised: Sequence[str]
    seeds: Sequence[int]


class Files(NamedTuple):
    """Functions that return the path of each input of a report.

    ``metrics``, ``history``: of a cell and a seed; ``baseline``: of a data set, ``raw`` or
    ``untrained``, and a seed; ``transfer``: of the data set pretrained on, the cell (with the data
    set probed on) and a seed; ``settings``: of a cell; ``evaluation``, ``card``: of a data set.
    """

    metrics: Callable[[Cell, int], Path]
    history: Callable[[Cell, int], Path]
    baseline: Callable[[str, str, int], Path]
    transfer: Callable[[str, Cell, int], Path]
    settings: Callable[[Cell], Path]
    evaluation: Callable[[str], Path]
    card: Callable[[str], Path]


class Study(NamedTuple):
    """The collected inputs of a report.

    ``results``: `COLUMNS`, one row per training and baseline; ``origins``: what made each training
    (cell, seed, encoder: SHA-256, torch: version); ``histories``: one row per epoch of a training
    without labels; ``transfers``: `TRANSFER_COLUMNS`; ``cards``: data set -> card.
    """

    results: pd.DataFrame
    origins: pd.DataFrame
    histories: pd.DataFrame
    transfers: pd.DataFrame
    cards: dict[str, dict[str, Any]]


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """Read a JSON object that has at least these keys.

    Raises:
        UserError: missing or damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    for key in keys:
        required(found, key, path)
    return found


def required(block: Mapping[str, Any], key: str, path: Path) -> Any:
    """Return an entry of a block of a file.

    Raises:
        UserError: missing.
    """
    if key not in block:
        raise UserError(f"{path}: {key} is missing; run `dvc repro -f` with the stage that writes it")
    return block[key]


def read_csv(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a CSV file that has at least these columns. An empty augmentation is "", not NaN.

    Raises:
        UserError: missing or damaged.
    """
    try:
        found = pd.read_csv(path, dtype={"augmentation": str})
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    missing = [column for column in columns if column not in found.columns]
    if missing:
        raise UserError(f"{path}: has no column {missing[0]}; run `dvc repro -f` with the stage that writes it")
    return found.fillna({"augmentation": ""})


def read_studies(reports: Path, names: Sequence[str]) -> pd.DataFrame:
    """Return the rows of several studies as those of one; each must have data sets of its own.

    Raises:
        UserError: results.csv of a study is missing or damaged, or a data set is in two of them.
    """
    tables: list[pd.DataFrame] = []
    owners: dict[str, str] = {}
    for name in names:
        tables.append(read_csv(reports / name / "results.csv", COLUMNS))
        for dataset in tables[-1].dataset.unique():
            if dataset in owners:
                raise UserError(f"{dataset} is in two studies, {owners[dataset]} and {name}; name one of them")
            owners[dataset] = name
    return pd.concat(tables, ignore_index=True)


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = "not there" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
    return UserError(f"{path}: cannot be read ({reason}); run `dvc repro` with the stage that writes it")


def csv_bytes(table: pd.DataFrame) -> bytes:
    """Return a table as the bytes of a CSV file, the same on every system."""
    return table.to_csv(index=False, lineterminator="\n").encode()


def trainings(grid: Grid) -> list[Cell]:
    """Return a grid's cells per data set and augmentation, the supervised ones first."""
    columns = [*itertools.product([SUPERVISED], grid.supervised), *itertools.product(grid.methods, grid.mixes)]
    return [(*row, *column) for row in itertools.product(grid.datasets, grid.augmentation) for column in columns]


def collect(grid: Grid, files: Files, pairs: Iterable[Mapping[str, str]] = ()) -> Study:
    """Read the inputs of a report.

    Args:
        pairs: ``pretrained_on`` and ``probed_on`` of every transfer.

    Raises:
        UserError: a file that is missing or damaged.
    """
    rows, origins, histories = [], [], []
    for dataset, kind, seed in itertools.product(grid.datasets, BASELINES, grid.seeds):
        metrics = read_json(files.baseline(dataset, kind, seed), *METRICS)
        rows.append(_row((dataset, "", BASELINE, kind), seed, metrics, epochs=0))
    for cell in trainings(grid):
        epochs = required(read_json(files.settings(cell), "settings")["settings"], "epochs", files.settings(cell))
        for seed in grid.seeds:
            metrics = read_json(files.metrics(cell, seed), *METRICS, "encoder", "torch")
            rows.append(_row(cell, seed, metrics, epochs=epochs))
            origins.append(_identity(cell, seed) | {key: metrics[key] for key in ("encoder", "torch")})
            if cell[2] != SUPERVISED:
                histories.append(read_history(files.history(cell, seed), cell, seed))
    return Study(
        pd.DataFrame(rows, columns=COLUMNS),
        pd.DataFrame(origins),
        pd.concat(histories, ignore_index=True),
        collect_transfers(grid, files, pairs),
        {dataset: read_json(files.card(dataset), "source", "rows") for dataset in grid.datasets},
    )


def read_history(path: Path, cell: Cell, seed: int) -> pd.DataFrame:
    """Read the history of a training, one row per epoch, with columns that name the cell and the seed.

    Raises:
        UserError: missing or damaged.
    """
    return read_csv(path, ("epoch", "loss", "knn_validation")).assign(**_identity(cell, seed))


def collect_transfers(grid: Grid, files: Files, pairs: Iterable[Mapping[str, str]]) -> pd.DataFrame:
    """Return one row per encoder that was evaluated on a data set that it was not pretrained on.

    Raises:
        UserError: a file that is missing or damaged.
    """
    rows = []
    for pair, *columns, seed in itertools.product(pairs, grid.augmentation, grid.methods, grid.mixes, grid.seeds):
        cell = (pair["probed_on"], *columns)
        metrics = read_json(files.transfer(pair["pretrained_on"], cell, seed), *METRICS)
        rows.append({"pretrained_on": pair["pretrained_on"]} | _row(cell, seed, metrics))
    return pd.DataFrame(rows, columns=TRANSFER_COLUMNS)


def moved(study: Study) -> pd.DataFrame:
    """Return the transfers with the columns of results and the data set "a to b", after the baselines of b."""
    pairs = study.transfers[["pretrained_on", "dataset"]].drop_duplicates()
    baselines = pairs.merge(study.results[study.results.method == BASELINE], on="dataset")
    both = pd.concat([baselines, study.transfers])
    return both.assign(dataset=both.pretrained_on + " to " + both.dataset)


def _identity(cell: Cell, seed: int) -> dict[str, Any]:
    return dict(zip(CELL, cell, strict=True)) | {"seed": seed}


def _row(cell: Cell, seed: int, metrics: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    found = {name: math.nan if metrics[name] is None else metrics[name] for name in METRICS}  # None: no labels
    return _identity(cell, seed) | found | more


def encoders(origins: pd.DataFrame) -> dict[tuple[Any, ...], str]:
    """Return the SHA-256 of every encoder, by data set, augmentation, method, mix and seed."""
    return {tuple(key): sha for *key, sha in origins[[*CELL, "seed", "encoder"]].itertuples(index=False, name=None)}


def record(grid: Grid, files: Files, cards: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the results were made with; nothing in it names a machine.

    It has each data set's source and choice of rows, the settings of its evaluation, and the
    settings of every cell; the last two with the fingerprint of the code that used them.
    """
    made: dict[str, Any] = {"data": {}, "evaluation": {}, "cells": {}}
    for dataset, card in cards.items():
        kept = ("source", "chosen", "rows", "sha256")
        made["data"][dataset] = {key: card[key] for key in kept if key in card}
        made["evaluation"][dataset] = _settings(files.evaluation(dataset))
    for cell in trainings(grid):
        dataset, augmentation, method, mix = cell
        methods = made["cells"].setdefault(dataset, {}).setdefault(augmentation, {})
        methods.setdefault(method, {})[mix] = _settings(files.settings(cell))
    return made


def _settings(path: Path) -> dict[str, Any]:
    found = read_json(path, "settings", "code")
    return {key: found[key] for key in ("settings", "code")}
