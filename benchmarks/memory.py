"""Peak memory of steps, views and linear evaluation, each in a fresh process, above what it takes when idle."""

import multiprocessing
import statistics
import sys
from collections.abc import Callable

import torch

from benchmarks import cells, peak, start
from benchmarks.plain import PlainStep
from imix import domains, runtime
from imix.evaluation import train_probes
from imix.features import extract


def work(kind: str, dataset: str, size: float, batch: int) -> Callable[[], object]:
    """The work to be measured; its data and its network are made here."""
    precision = "bfloat16" if kind.endswith("bfloat16") else "float32"
    cell = cells.cell(
        dataset, "moco", "imix" if kind.startswith("i-Mix") else "none", size, batch_size=batch, precision=precision
    )
    if kind == "plain":
        data = cells.noise(dataset, batch)
        views, reference = domains.make_views(data.kind, cell.views, data), PlainStep("moco", cell, data.column_groups)
        return lambda: reference(*(views(data.train, which, torch.Generator()) for which in (0, 1)))
    training = cells.training(dataset, "moco", cell)
    if kind == "views":
        return lambda: cells.views(training)
    if kind == "probe":
        data, probe = training.dataset, cells.probe(dataset).model_copy(update={"epochs": 2, "milestones": [1]})
        return lambda: train_probes(
            [extract(training.method.encoder, data.train, training.views.clean)],
            data.train_labels,
            len(data.classes),
            probe,
            0,
        )
    return lambda: cells.step(training)


def measure(kind: str, dataset: str, size: float, batch: int) -> float:
    """MB that doing it twice adds to a process that has imported torch."""
    runtime.configure()
    torch.manual_seed(0)
    torch.randn(64, 64) @ torch.randn(64, 64)
    before = peak()
    function = work(kind, dataset, size, batch)
    for _ in range(2):
        function()
    return peak() - before


def main(rounds: int = 3) -> None:
    """A line per network and kind of work; ``--full``: the paper's batch."""
    start()
    batch = 256 if "--full" in sys.argv else 32
    for name, dataset, size, rows in (("ResNet-18", "cifar10", 18, batch), ("MLP x 1", "covtype", 1.0, 512)):
        print(f"{name}, batch {rows}, MoCo, MB above an idle process, weights and data included, n = {rounds}:")
        for kind in ("plain", "ours float32", "ours bfloat16", "i-Mix float32", "views", "probe"):
            found = []
            for _ in range(rounds):
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    found.append(pool.apply(measure, (kind, dataset, size, rows)))
            print(f"  {kind} {statistics.median(found):.0f} ({min(found):.0f} to {max(found):.0f})", flush=True)


if __name__ == "__main__":
    main()
