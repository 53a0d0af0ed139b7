"""Choose the recipes of a study by a rule that knows no test row: ``python -m benchmarks.recipes mnist``.

Every candidate trains plain and with i-Mix, augmented and clean, from a seed that the study does not use. Its
score is the kNN accuracy on validation rows after the last epoch, averaged over those trainings: one choice for
plain and i-Mix, augmented and clean. In this order:

1. for each method, batch size, learning rate and ema (all combinations, at the smaller width);
2. the width, twice as large if that adds a point to the mean over methods;
3. epochs, twice as many as long as that adds a point to the mean over methods;
4. for the baseline with labels, batch size and learning rate, at that width and for those epochs.

The largest width and the most epochs are what a study of 216 trainings on two cores has time for. Of real data, batch
size, width and epochs are fixed, and candidates train for 10 epochs.

Writes one row per training to <out>/<dataset>.csv and prints what it chooses; docs/recipes.md has the outcome.
Needs data/<dataset>/tensors, as ``dvc repro preprocess`` makes it.
"""

import argparse
import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from imix import identity, paths, plugins, running
from imix.errors import exit_cleanly
from imix.files import write_json
from imix.settings import loading, merging

Chosen = dict[str, dict[str, Any]]  # by method
SEEDS = (1000,)
METHODS = ("npair", "moco", "byol")
SUPERVISED = "supervised"
MIXES = {SUPERVISED: ("none",)}  # of other methods, both
RATES, EMAS = [0.25, 1.0], [0.9, 0.99]  # ema: of methods that have one


class Search(NamedTuple):
    """What is tried on a data set; the first width and the first epochs are those of steps 1 and 2."""

    batches: list[int]
    widths: list[float]
    epochs: list[int]


SEARCHES = {
    "mnist": Search([32, 64], [8], [5, 10]),
    "diamonds": Search([32, 64], [0.03125, 0.0625], [10, 20]),
    "spoken": Search([32, 64], [8], [3]),
    "cifar10_small": Search([128], [16], [10]),
    "speech_commands_small": Search([128], [16], [10]),
}


def settings(dataset: str, method: str, change: dict[str, Any], augmentation: str, mix: str) -> dict[str, Any]:
    """Return the settings of one training of a candidate."""
    params = loading.load()
    encoder = {"encoder": {"width": change["width"]}} if "width" in change else {}
    layer = encoder | {key: value for key, value in change.items() if key != "width"} | {"warmup_epochs": 1}
    cell = paths.Cell(dataset, augmentation, method, mix)
    return merging.resolve(params, cell, ("candidate", layer)).model_dump()


def train(slot: int, report: Any, cell: paths.Cell, raw: dict[str, Any], code: str, seed: int, target: Path) -> None:
    """Train once, and write the validation kNN accuracy and the seconds of one core."""
    from imix import dataset, jobs, runtime

    rows = dataset.load(paths.tensors(cell.dataset), runtime.configure(slot))
    began = time.process_time()
    with jobs.trained(cell, raw, code, seed, rows, report) as done:
        taken = time.process_time() - began
        score = float(pd.read_csv(done.history)["knn_validation"].dropna().iloc[-1])
    write_json(target, {"knn_validation": score, "seconds": round(taken, 2)})


def run(dataset: str, candidates: list[tuple[str, dict[str, Any]]], out: Path) -> pd.DataFrame:
    """Train every candidate; return one row per training."""
    kind = merging.data(loading.load(), dataset).module.KIND
    rows, tasks = [], []
    trainings = (
        (method, change, *rest)
        for method, change in candidates
        for rest in itertools.product(("augmented", "clean"), MIXES.get(method, ("none", "imix")), SEEDS)
    )
    for method, change, augmentation, mix, seed in trainings:
        raw = settings(dataset, method, change, augmentation, mix)
        cell = paths.Cell(dataset, augmentation, method, mix)
        target = out / dataset / f"{identity.digest([raw, seed, method])[:16]}.json"
        row = {"method": method, "augmentation": augmentation, "mix": mix, "seed": seed, **change}
        rows.append((row, target))
        if not target.exists():
            code = identity.training_code(method, kind)
            label = f"{cell} {' '.join(f'{key} {value}' for key, value in change.items())}"
            tasks.append(running.Task(label, "benchmarks.recipes:train", (cell, raw, code, seed, target)))
    if tasks:
        modules = [f"imix.methods.{method}" for method in plugins.names("methods")]
        running.run(f"recipes {dataset}", tasks, ["imix.jobs", f"imix.views.{kind}", *modules])
    return pd.DataFrame([row | json.loads(target.read_text()) for row, target in rows])


def score(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return each candidate's mean score and seconds, the best first."""
    means = table.groupby(keys, dropna=False)[["knn_validation", "seconds"]].mean()
    return means.sort_values("knn_validation", ascending=False, kind="stable")


def best(dataset: str, methods: Sequence[str], width: float, epochs: int, out: Path) -> tuple[Chosen, pd.DataFrame]:
    """Return each method's best batch size, learning rate and ema, of all combinations, and all trainings."""
    found = []
    for method in methods:
        emas = [{"ema": ema} for ema in EMAS] if method in ("moco", "byol") else [{}]
        for batch, rate, ema in itertools.product(SEARCHES[dataset].batches, RATES, emas):
            change = {"width": width, "epochs": epochs, "batch_size": batch, "learning_rate": rate} | ema
            found.append((method, change))
    table, keys = run(dataset, found, out), ["batch_size", "learning_rate", "ema"]
    table, chosen = table.reindex(columns=table.columns.union(keys, sort=False)), {}
    for method in methods:
        scores = score(table[table.method == method], keys)
        print(f"{method}\n{scores.round(2).to_string()}")
        values = {key: value for key, value in zip(keys, scores.index[0], strict=True) if value == value}  # not NaN
        chosen[method] = next(change for other, change in found if other == method and change.items() >= values.items())
    return chosen, table


def doubled(dataset: str, chosen: Chosen, key: str, values: list[Any], out: Path) -> tuple[Any, list[pd.DataFrame]]:
    """Return the largest of rising values that each add a point to the one before, and all trainings."""
    best, before, tables = values[0], None, []
    for value in values:
        table = run(dataset, [(method, change | {key: value}) for method, change in chosen.items()], out)
        mean, seconds = table["knn_validation"].mean(), table["seconds"].mean()
        print(f"{key} {value}: kNN {mean:.2f} %, {seconds:.1f} s a training")
        tables.append(table)
        if before is not None and mean < before + 1:
            break
        best, before = value, mean
    return best, tables


def main() -> None:
    """Search the recipe of one data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", choices=sorted(SEARCHES))
    parser.add_argument("--out", type=Path, default=Path("recipes"))
    args = parser.parse_args()
    dataset, out = args.dataset, args.out
    search = SEARCHES[dataset]
    chosen, table = best(dataset, METHODS, search.widths[0], search.epochs[0], out)
    width, wider = doubled(dataset, chosen, "width", search.widths, out)
    chosen = {method: change | {"width": width} for method, change in chosen.items()}
    epochs, longer = doubled(dataset, chosen, "epochs", search.epochs, out)
    with_labels, last = best(dataset, [SUPERVISED], width, epochs, out)
    pd.concat([table, *wider, *longer, last]).drop_duplicates().to_csv(out / f"{dataset}.csv", index=False)
    print(f"{dataset}: epochs {epochs}, width {width}; {chosen | with_labels}")


if __name__ == "__main__":
    exit_cleanly(main)
