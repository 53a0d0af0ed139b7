"""Print how far the trainings of the grid are, and write their curves so far for `dvc plots`.

Run it during `dvc repro` or `dvc exp run`, in a second terminal. It reads data/histories, where
each training adds a line after every epoch, and writes reports/<study>/curves.csv, which `dvc plots
show` and `dvc plots diff` draw. The stage report writes that file again at the end. A cell that this
run has not reached has the curves of the run before.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imix.console import show_table
from imix.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("loss", "knn_validation")


def options(parser: argparse.ArgumentParser) -> None:
    """Add no options."""


def run(args: argparse.Namespace) -> None:
    """Print a line per cell, and write the curves.

    Raises:
        UserError: no training of the grid has finished an epoch, or a file is damaged.
    """
    import pandas as pd

    from imix import paths
    from imix.files import write_bytes
    from imix.reporting import plots, results
    from imix.settings import files
    from imix.settings.study import SUPERVISED, Grid

    grid = Grid.model_validate(files.read("grid")["settings"])
    rows, histories = [], []
    for cell in [*grid.cells(), *grid.supervised_cells()]:
        epochs = files.read(*cell)["settings"]["epochs"]
        places = {seed: paths.histories(cell) / f"{seed}.csv" for seed in grid.seeds}
        found = [results.read_history(path, cell, seed) for seed, path in places.items() if path.is_file()]
        rows.append([*cell, *_progress(found, epochs, len(grid.seeds))])
        histories += found if cell.method != SUPERVISED else []
    heads = ["data", "augmentation", "method", "mix", ">finished", ">epochs", ">loss", ">kNN, %"]
    show_table(heads, rows)
    if not histories:
        raise UserError(f"{paths.DATA / 'histories'}: no training of the grid has finished an epoch")
    target = Path("reports") / grid.name / "curves.csv"
    write_bytes(target, results.csv_bytes(plots.curves_table(pd.concat(histories, ignore_index=True))))
    print(f"\n{target}: written; `dvc plots show` shows it, `dvc plots diff REVISION` compares it")


def _progress(histories: Sequence["pd.DataFrame"], epochs: int, seeds: int) -> list[str]:
    """Return the last columns of a cell's line: finished trainings, epochs of the slowest one, means over trainings."""
    last = [int(history["epoch"].iloc[-1]) for history in histories]
    reached = min(last) if len(last) == seeds else 0
    return [f"{last.count(epochs)} of {seeds}", f"{reached} of {epochs}", *(_latest(histories, c) for c in COLUMNS)]


def _latest(histories: Sequence["pd.DataFrame"], column: str) -> str:
    """Return the mean of each training's latest value of a column; empty where there is none."""
    values = [known.iloc[-1] for history in histories if len(known := history[column].dropna())]
    return f"{sum(values) / len(values):.4g}" if values else ""
