"""How time and memory grow with rows, batch, queue, seeds and stages: a Markdown table with fitted exponents."""

import math
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks import cells, peak, start
from benchmarks.epoch import ours
from imix import runtime

BATCH = 500
AXES = {  # quick; --full goes on
    "rows": (1_000, 10_000, 100_000),
    "batch": (32, 128, 512, 2048),
    "queue": (1_024, 4_096, 16_384, 65_536),
    "seeds": (1, 2, 4),
    "stages": (10, 20, 40),
}
MORE = {"rows": (1_000_000,), "stages": (80, 160)}
MEASURED = {
    "rows": "an epoch",
    "batch": "a step",
    "queue": "a step",
    "seeds": "trainings one after the other",
    "stages": "a `dvc repro` of nothing",
}


def train(axis: str, value: int) -> tuple[float, float]:
    """Seconds and MB of MoCo + i-Mix on the tabular network, by one axis.

    The others stay at rows 5,000 (4,096 along the batch), batch 500, queue 4,096.
    """
    runtime.configure()
    before = peak()
    rows = value if axis == "rows" else 4096 if axis == "batch" else 10 * BATCH
    changes = {"batch_size": value if axis == "batch" else BATCH, "queue": value if axis == "queue" else 4096}
    seconds = 0.0
    for _ in range(value if axis == "seeds" else 1):
        training = cells.training("diamonds", "moco", cells.cell("diamonds", "moco", "imix", **changes), rows)
        training.step_loss(torch.arange(training.settings.batch_size)).backward()  # a warm-up
        started = time.perf_counter()
        ours(training)
        seconds += time.perf_counter() - started
    return seconds / (training.steps if axis in ("batch", "queue") else 1), peak() - before


def stages(count: int) -> tuple[float, float]:
    """Seconds that DVC takes to find that none of so many stages needs to run; memory is DVC's own."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "dvc.yaml").write_text(
            "stages:\n" + "".join(f"  s{k}:\n    cmd: echo {k} > {k}.txt\n    outs: [{k}.txt]\n" for k in range(count))
        )

        def dvc(*command: str) -> None:
            subprocess.run(
                [sys.executable, "-m", "dvc", *command],
                cwd=folder,
                check=True,
                capture_output=True,
                env=os.environ | {"DVC_NO_ANALYTICS": "1"},
            )

        dvc("init", "--no-scm")
        dvc("repro")
        times = []
        for _ in range(5):
            started = time.perf_counter()
            dvc("repro")
            times.append(time.perf_counter() - started)
        return statistics.median(times), math.nan


def exponent(values: list[int], costs: list[float]) -> str:
    """The slope of log cost over log value, by least squares."""
    if any(not cost > 0 for cost in costs):
        return ""
    x, y = torch.tensor([[math.log(v) for v in values], [math.log(c) for c in costs]], dtype=torch.float64)
    x, y = x - x.mean(), y - y.mean()
    return f"{float((x * y).sum() / (x * x).sum()):.2f}"


def main() -> None:
    """One row per axis; each training in a fresh process; ``--full``: to a million rows."""
    start()
    print("| axis | measured | values | seconds | exponent | MB | exponent |\n|---|---|---|---|---|---|---|")
    for axis, values in AXES.items():
        values = [*values, *(MORE.get(axis, ()) if "--full" in sys.argv else ())]
        found = []
        for value in values:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found.append(stages(value) if axis == "stages" else pool.apply(train, (axis, value)))
        seconds, memory = (list(column) for column in zip(*found, strict=True))
        shown = ["" if math.isnan(m) else f"{m:.0f}" for m in memory]
        cells_ = (
            axis,
            MEASURED[axis],
            *(", ".join(texts) for texts in ([f"{v:,}" for v in values], [f"{s:.3g}" for s in seconds])),
        )
        print(
            f"| {' | '.join(cells_)} | {exponent(values, seconds)} | {', '.join(s for s in shown if s)} | "
            f"{exponent(values, memory)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
