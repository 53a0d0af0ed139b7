"""The paper's CovType column on a GPU: N-pair, MoCo and BYOL, each without and with i-Mix, as many seeds as fit.

    python -m benchmarks.gpu_covtype FOLDER --make                       # here: read the archive into FOLDER
    python -m benchmarks.gpu_covtype FOLDER --results RESULTS [--seconds 300] [--precision tf32]    # there

Rows come from ``IMIX_DATA_MIRROR`` where that is set. Each training's result is on the disk when it is done; the
time is up when it is up, and a second run goes on from there, as long as the store (``IMIX_STORE``) is kept.
"""

import argparse
import itertools
import json
import os
import signal
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.gpu_tables import Table
from imix import running
from imix.errors import Stopped, exit_cleanly
from imix.files import sha256, write_json
from imix.paths import Cell
from imix.progress import Report
from imix.reporting.published import TABLE_1

CELLS = [Cell("covtype", "augmented", *each) for each in itertools.product(("npair", "moco", "byol"), ("none", "imix"))]
METRICS = ("linear_accuracy", "linear_accuracy_test_selected", "balanced_accuracy", "knn_accuracy")
GRACE = 25  # seconds for saving what runs, when time is up
WORKERS = "3"  # trainings side by side: while one starts operations, the GPU has another's


def make(folder: Path) -> None:
    """Read the archive that the mirror has, whatever its checksum, into tensors, as the stages do."""
    from benchmarks import cells
    from imix import sources
    from imix.settings import merging

    module, source, rows, _ = merging.data(cells.params(), "covtype")
    mirror = os.environ.get("IMIX_DATA_MIRROR")
    if mirror:
        archive = Path(mirror, module.ARCHIVE.file)
        source = source.model_copy(update={"checksum": f"sha256:{sha256(archive)}"})
    with tempfile.TemporaryDirectory() as raw:
        module.fetch(source, Path(raw))
        sources.save(module.read(source, rows, Path(raw)), folder, module.KIND, module.ORIGIN, {})


def settings(cell: Cell, precision: str, tiny: bool) -> dict[str, Any]:
    """Return the recipe of a cell, in this precision; ``tiny``: a small network, for one epoch."""
    from benchmarks import cells

    changes = {"epochs": 1, "warmup_epochs": 0, "batch_size": 64, "queue": 128, "embedding": 16} if tiny else {}
    found = cells.cell(*cell[::2], cell.mix, 1 / 64 if tiny else None, precision=precision)
    known = {key: value for key, value in changes.items() if key in type(found).model_fields}
    return found.model_copy(update=known).model_dump()


def evaluation(tiny: bool) -> dict[str, Any]:
    """Return how encoders are evaluated."""
    from benchmarks import cells
    from imix.settings import merging

    found = merging.evaluation_settings(cells.params(), "covtype")
    return found | {"probe": found["probe"] | {"epochs": 2, "milestones": [1]}} if tiny else found


def one(
    slot: int,
    report: Report,
    cell: Cell,
    raw: dict[str, Any],
    probing: dict[str, Any],
    seed: int,
    data: Path,
    out: Path,
) -> None:
    """Train and evaluate one seed of a cell, and write what came of it."""
    from imix import checkpoints, dataset, identity, jobs, runtime, store

    rows = dataset.load(data, runtime.configure(slot))
    with jobs.trained(cell, raw, identity.training_code(cell.method, rows.kind), seed, rows, report) as done:
        network, weights = checkpoints.load(done.encoder, rows)
        loss = float(done.history.read_text().splitlines()[-1].split(",")[1])
    metrics = jobs.evaluated(network, weights, rows, probing, identity.evaluation_code(rows.kind), seed, report)
    spent = json.loads((store.root() / "records" / f"{weights}.json").read_text())
    found = {"method": cell.method, "mix": cell.mix, "seed": seed, "precision": raw["precision"], "loss": loss}
    found |= {key: metrics[key] for key in METRICS}
    write_json(out / f"{cell.method}-{cell.mix}-{seed}.json", found | {k: spent[k] for k in ("seconds", "device")})


def tables(out: Path, results: Path) -> None:
    """Write all results as one table, and cells with their gains over all seeds as another."""
    found = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    every, summary = Table(results, "covtype"), Table(results, "covtype_cells")
    for row in found:
        every.add(**row)
    for cell in CELLS:
        seeds = {row["seed"]: row for row in found if (row["method"], row["mix"]) == cell[2:]}
        plain = {row["seed"]: row for row in found if (row["method"], row["mix"]) == (cell.method, "none")}
        paper = "{} ± {}".format(*TABLE_1["covtype"][cell[2:]])
        row = {"method": cell.method, "mix": cell.mix, "n": len(seeds), "paper": paper}
        for metric in METRICS[:2]:
            values = [each[metric] for each in seeds.values()]
            deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            row[metric] = f"{statistics.mean(values):.1f}{deviation}" if values else ""
            gains = [seeds[seed][metric] - plain[seed][metric] for seed in sorted(seeds.keys() & plain.keys())]
            row[f"gain of {metric}"] = " ".join(f"{gain:+.1f}" for gain in gains if cell.mix != "none")
        summary.add(**row, seconds=statistics.median([each["seconds"] for each in seeds.values()]) if seeds else "")


@contextmanager
def stopping(seconds: float) -> Iterator[None]:
    """Send this process SIGTERM after so many seconds, and again after `GRACE`: then workers are killed."""
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    signal.setitimer(signal.ITIMER_REAL, seconds, GRACE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def main() -> None:
    """Make the tensors, or train, evaluate and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the tensors")
    parser.add_argument("--make", action="store_true")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seeds", type=int, default=8, help="at most")
    parser.add_argument("--precision", choices=("float32", "tf32", "bfloat16"), default="tf32")
    parser.add_argument("--tiny", action="store_true", help="sizes that show whether it runs")
    args = parser.parse_args()
    if args.make:
        return make(args.folder)
    os.environ.setdefault("IMIX_WORKERS", WORKERS)
    os.environ.setdefault("IMIX_SAVE_SECONDS", "100000")  # a state has a gigabyte; when time is up it is saved
    out, probing = args.results / "covtype", evaluation(args.tiny)
    tasks = [
        running.Task(f"{cell} seed {seed}", "benchmarks.gpu_covtype:one",
                     (cell, settings(cell, args.precision, args.tiny), probing, seed, args.folder, out))
        for seed in range(args.seeds) for cell in CELLS
    ]  # fmt: skip
    try:
        with stopping(args.seconds):
            running.run("covtype", tasks, ["imix.preload", "imix.jobs"])
    except Stopped as stopped:
        print(f"time is up: {stopped}")
    finally:
        tables(out, args.results)
    return None


if __name__ == "__main__":
    exit_cleanly(main)
