"""Choose the recipes of the default study by a rule that knows no test row: ``python -m benchmarks.recipes mnist``.

For each method, every candidate trains plain and with i-Mix, augmented and clean, from seeds that the study
does not use. Its score is the kNN accuracy on validation rows after the last epoch, averaged over those
trainings: the same choice for plain and i-Mix. The width is chosen first, by the mean over methods of their
best candidates; then each method's batch size, learning rate and ema; then epochs: twice as many as long as
that adds a point or more to the mean over methods, within seconds per training (of one core).

Writes one row per training to --out/<dataset>.csv, and prints the table of docs/recipes.md. Trainings that
are in the store are not run again. Needs data/<dataset>/tensors, as ``dvc repro preprocess`` makes it.
"""

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

import pandas as pd

from imix import identity, paths, plugins, running
from imix.errors import exit_cleanly
from imix.files import write_json
from imix.settings import loading, merging

SEEDS = (1000,)
METHODS = ("npair", "moco", "byol")
CELLS = tuple(itertools.product(("augmented", "clean"), ("none", "imix")))
SECONDS = {"mnist": 5.0, "diamonds": 4.0, "spoken": 8.0}  # of one core, that a training may take on average
# what a data set's candidates differ in; ema is of methods that have one
WIDTHS = {"mnist": [8, 16], "diamonds": [0.03125, 0.0625], "spoken": [8, 16]}
BATCHES, RATES, EMAS = [32, 64], [0.25, 1.0], [0.9, 0.99]
EPOCHS = {"mnist": 5, "diamonds": 10, "spoken": 3}  # of the candidates


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
    done = jobs.trained(cell, raw, code, seed, rows, report)
    taken = time.process_time() - began
    score = float(pd.read_csv(done.history)["knn_validation"].dropna().iloc[-1])
    write_json(target, {"knn_validation": score, "seconds": round(taken, 2)})


def run(dataset: str, candidates: list[tuple[str, dict[str, Any]]], out: Path) -> pd.DataFrame:
    """Train every candidate; return one row per training."""
    kind = merging.data(loading.load(), dataset).module.KIND
    rows, tasks = [], []
    for (method, change), (augmentation, mix), seed in itertools.product(candidates, CELLS, SEEDS):
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


def best(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return each candidate's mean score and seconds, the best first."""
    means = table.groupby(keys, dropna=False)[["knn_validation", "seconds"]].mean()
    return means.sort_values("knn_validation", ascending=False)


def main() -> None:
    """Search the recipe of one data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", choices=sorted(SECONDS))
    parser.add_argument("--out", type=Path, default=Path("recipes"))
    args = parser.parse_args()
    dataset = args.dataset
    first = []
    for method, width, batch, rate in itertools.product(METHODS, WIDTHS[dataset], BATCHES, RATES):
        for ema in EMAS if method != "npair" else [None]:
            change = {"width": width, "batch_size": batch, "learning_rate": rate, "epochs": EPOCHS[dataset]}
            first.append((method, change | ({} if ema is None else {"ema": ema})))
    table = run(dataset, first, args.out)
    table.to_csv(args.out / f"{dataset}.csv", index=False)
    keys = ["width", "batch_size", "learning_rate", "ema"]
    per_method = {method: best(table[table.method == method].assign(ema=lambda t: t.get("ema")), keys) for method in METHODS}
    widths = {
        width: sum(each.xs(width)["knn_validation"].max() for each in per_method.values()) / len(METHODS)
        for width in WIDTHS[dataset]
    }
    width = max(widths, key=widths.__getitem__)
    print(f"{dataset}: widths {widths}, chosen {width}")
    chosen = {}
    for method, each in per_method.items():
        print(each.round(2).to_string())
        batch, rate, ema = each.xs(width).index[0]
        chosen[method] = {"width": width, "batch_size": int(batch), "learning_rate": float(rate)}
        if method != "npair":
            chosen[method]["ema"] = float(ema)
    epochs, score, tables = EPOCHS[dataset], None, [table]
    while True:
        longer = run(dataset, [(method, change | {"epochs": epochs}) for method, change in chosen.items()], args.out)
        found, seconds = longer["knn_validation"].mean(), longer["seconds"].mean()
        print(f"epochs {epochs}: kNN {found:.2f}, {seconds:.1f} s a training")
        print(longer.pivot_table(index=["method", "augmentation"], columns="mix", values="knn_validation").round(1).to_string())
        tables.append(longer)
        if score is not None and found < score + 1:
            epochs //= 2
            break
        if 2 * seconds > SECONDS[dataset]:
            break
        epochs, score = 2 * epochs, found
    pd.concat(tables).drop_duplicates().to_csv(args.out / f"{dataset}.csv", index=False)
    print(f"{dataset}: epochs {epochs}, {chosen}")


if __name__ == "__main__":
    exit_cleanly(main)
