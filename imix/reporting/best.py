"""The best encoder of a data set, chosen by validation rows, and its model card."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from imix import __version__
from imix.files import sha256, write_bytes
from imix.paths import Cell
from imix.reporting.results import read_json
from imix.reporting.statistics import spread
from imix.reporting.tables import Table, plus_minus
from imix.reporting.titles import cell_title, seeds_text

SHOWN = {
    "linear_accuracy": "linear evaluation, test top-1, %",
    "balanced_accuracy": "the same, balanced over classes",
    "knn_accuracy": "kNN, test, %",
    "linear_accuracy_1_percent": "linear evaluation with 1 % of the labels",
    "linear_accuracy_10_percent": "linear evaluation with 10 % of the labels",
    "linear_accuracy_validation": "linear evaluation, validation rows, %",
}
CARD = """\
# {dataset}: {title}, trained {augmentation}

An encoder trained without labels by imix {version} ([i-Mix](https://arxiv.org/abs/2010.08887)) in study `{study}`.
{chosen}

```python
import imix

encoder = imix.load_encoder("{dataset}.safetensors")
features = encoder(encoder.prepare(raw))  # raw: a DataFrame, or paths of pictures or recordings
```

## Data

{origin}. {train:,} training rows, {validation:,} of them for validation; {test:,} test rows; {classes} classes:
{names}. A row is {shape} {dtype}.

## Metrics

{metrics}
## Recipe

{recipe}
## Limits

- A small encoder of a short training, made to compare methods. Features are good for data like the training's, and for
  nothing else without a test of your own.
- The choice by validation rows favours the luckier seed: expect the mean of the cell, not the number of this encoder.
- Classes are as uneven as in the data; see the balanced accuracy.

## Licence

The weights are under the licence of the code, MIT. The data have their own terms: {origin}.

SHA-256 of the file: `{sha256}`
"""

BEST = """\
Of all on {dataset}, its cell has the best mean linear evaluation on validation rows over {n}, and
seed {seed} is the best of that cell."""
UNLABELLED = "The data have no labels to choose by: it is the first cell's first seed, {seed}."


class Choice(NamedTuple):
    """An encoder, and the metrics of all seeds of its cell (a row each, indexed by seed)."""

    cell: Cell
    seed: int
    metrics: pd.DataFrame


def choose(cells: Sequence[Cell], numbers: Sequence[int], folder: Path) -> Choice:
    """Return the best encoder on validation rows: the best cell by its mean, then its best seed.

    Without labels there is no accuracy to choose by; it is then the first.

    Args:
        cells: of one data set. numbers: the seeds'. folder: data/metrics, which has
            ``<cell>/<seed>.json``.

    Raises:
        UserError: metrics that are missing or damaged.
    """
    found = {}
    for cell in cells:
        rows = {seed: read_json(folder / cell.path / f"{seed}.json", *SHOWN) for seed in numbers}
        table = pd.DataFrame([{key: row[key] for key in SHOWN} for row in rows.values()], index=list(rows))
        found[cell] = table.astype(float).fillna({"linear_accuracy_validation": 0.0})
    cell = max(found, key=lambda each: found[each]["linear_accuracy_validation"].mean())
    return Choice(cell, int(found[cell]["linear_accuracy_validation"].idxmax()), found[cell])


def card(study: str, choice: Choice, data: Mapping[str, Any], settings: Mapping[str, Any], file: Path) -> str:
    """Return the model card.

    Args:
        study: its name. data: the card of the data set. settings: of the cell. file: the encoder's.
    """
    count, carved, cell = data["rows"], data["carved"], choice.cell
    labelled = bool(choice.metrics["linear_accuracy"].notna().all())
    metrics = [
        [text, f"{choice.metrics.loc[choice.seed, key]:.1f}", plus_minus(spread(choice.metrics[key]))]
        for key, text in SHOWN.items()
        if labelled
    ]
    recipe = [[f"`{key}`", str(value).replace("|", "/")] for key, value in settings.items()]
    n = seeds_text(len(choice.metrics))
    chosen = (BEST if labelled else UNLABELLED).format(dataset=cell.dataset, n=n, seed=choice.seed)
    return CARD.format(
        dataset=cell.dataset, title=cell_title(*cell[2:]), version=__version__, study=study, chosen=chosen,
        augmentation={"clean": "without augmentation", "augmented": "with augmentation"}[cell.augmentation],
        origin=data["origin"], train=count["train"] + count["validation"] * carved,
        validation=count["validation"], test=count["test"], classes=len(data["classes"]),
        names=", ".join(map(str, data["classes"][:20])), shape=" × ".join(map(str, data["shape"])), dtype=data["dtype"],
        metrics=Table(["metric", "this encoder", f"mean ± standard deviation, {n}"], metrics),
        recipe=Table(["setting", "value"], recipe), sha256=sha256(file),
    )  # fmt: skip


def write(target: Path, source: Path, text: str) -> None:
    """Copy an encoder to ``target`` and write its card beside it."""
    write_bytes(target, source.read_bytes())
    write_bytes(target.with_suffix(".md"), text.encode())
