"""Peak memory of steps, views and linear evaluation, each in a fresh process, above what that process takes when it is ready."""

import multiprocessing
import sys
from collections.abc import Callable

import torch

from benchmarks import cells, peak, start
from imix import runtime


def work(kind: str, dataset: str, size: float, batch: int) -> Callable[[], object]:
    """The work to be measured; its data and its network are made here."""
    precision = "bfloat16" if kind.endswith("bfloat16") else "float32"
    mix = "imix" if kind.startswith("i-Mix") else "none"
    training = cells.training(dataset, "moco", cells.cell(dataset, "moco", mix, size, batch_size=batch, precision=precision))
    if kind == "views":
        return lambda: cells.views(training)
    if kind == "probe":
        from imix.evaluation import train_probes
        from imix.features import extract

        data, probe = training.dataset, cells.params().probe[dataset].model_copy(update={"epochs": 2, "milestones": [1]})
        return lambda: train_probes(
            [extract(training.method.encoder, training.views, data.train)], data.train_labels, len(data.classes), probe, 0
        )
    if kind == "plain":
        from benchmarks.plain import PlainStep

        pair, reference = cells.views(training), PlainStep("moco", training.settings, training.dataset.column_groups)
        return lambda: reference(*pair)
    return lambda: cells.step(training, cells.views(training))


def measure(kind: str, dataset: str, size: float, batch: int) -> float:
    """MB that doing it twice adds to a process that has imported torch."""
    runtime.configure(0)
    torch.randn(64, 64) @ torch.randn(64, 64)
    before = peak()
    function = work(kind, dataset, size, batch)
    function(), function()
    return peak() - before


def main() -> None:
    """A line per network; ``--full``: the paper's batch."""
    start()
    batch = 256 if "--full" in sys.argv else 32
    for name, dataset, size, rows in (("ResNet-18", "cifar10", 18, batch), ("MLP x 1", "covtype", 1.0, 512)):
        found = []
        for kind in ("plain", "ours float32", "ours bfloat16", "i-Mix float32", "views", "probe"):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found.append(f"{kind} {pool.apply(measure, (kind, dataset, size, rows)):.0f}")
        print(f"{name}, batch {rows}, MoCo, MB above an idle process, weights and data included: {', '.join(found)}", flush=True)


if __name__ == "__main__":
    main()
