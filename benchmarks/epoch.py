"""Epochs end to end, rows to updated weights: ours against item-by-item views and a plain step; the share of views."""

import statistics
import sys
import time

import torch

from benchmarks import cells, race, ratio, start
from benchmarks.plain import PIL_VIEW, PlainStep, pictures
from imix.evaluation import evaluate
from imix.pretraining import Training, run


def with_clock(training: Training) -> list[float]:
    """Make a training note the seconds that each of its views takes."""
    inner, noted = training.views, []

    class Clocked:
        clean = inner.clean

        def __call__(self, rows: torch.Tensor, which: int, generator: torch.Generator) -> torch.Tensor:
            started = time.perf_counter()
            view = inner(rows, which, generator)
            noted.append(time.perf_counter() - started)
            return view

    training.views = Clocked()
    return noted


def ours(training: Training) -> None:
    """Take the steps of one epoch, without the kNN that watches it, at a rate of 0: noise teaches nothing."""
    for _ in range(training.steps):
        cells.step(training)


def share(name: str, dataset: str, rows: int, rounds: int, **changes: object) -> Training:
    """Print the share of the views in an epoch of a cell, plain MoCo."""
    training = cells.training(dataset, "moco", cells.cell(dataset, "moco", "none", **changes), rows)
    noted, shares, seconds = with_clock(training), [], []
    for _ in range(rounds + 1):
        noted.clear()
        started = time.perf_counter()
        ours(training)
        seconds.append(time.perf_counter() - started)
        shares.append(100 * sum(noted) / seconds[-1])
    shares, seconds = shares[1:], seconds[1:]
    print(
        f"{name}, {training.steps} steps, n = {rounds}: views take {statistics.median(shares):.1f} % of an epoch "
        f"({min(shares):.1f} to {max(shares):.1f}); {statistics.median(seconds) / training.steps * 1e3:.1f} ms a step",
        flush=True,
    )
    return training


def against_plain(training: Training, rounds: int) -> None:
    """An epoch of ResNet-18, plain MoCo, against PIL pictures, one after the other, and the plain step."""
    s, items = training.settings, pictures(training.rows)
    step = PlainStep("moco", s, [])

    def plain() -> None:
        for block in torch.randperm(len(items)).split(s.batch_size):
            step(*(torch.stack([PIL_VIEW(items[k]) for k in block.tolist()]) for _ in (0, 1)))

    times = race({"ours": lambda: ours(training), "plain": plain}, rounds)
    print(
        f"  {s.precision}: {ratio(times['ours'], times['plain'])} times as fast "
        f"as PIL and the plain step, n = {rounds}",
        flush=True,
    )


def whole_cell(name: str, dataset: str, rows: int) -> None:
    """Print the seconds of one seed's training, kNN included, and of its evaluation, with ``rows`` rows a split."""
    training = cells.training(dataset, "npair", cells.cell(dataset, "npair", "imix", learning_rate=1e-4), rows)
    started = time.perf_counter()
    run(training, name)
    trained = time.perf_counter()
    evaluate(training.method.encoder, training.dataset, cells.views_settings(dataset), cells.probe(dataset), 0)
    evaluated = time.perf_counter() - trained
    found = f"{trained - started:.1f} s of training, {evaluated:.1f} s of evaluation"
    print(f"{name}, {rows} rows a split, {training.settings.epochs} epochs: {found}", flush=True)


def main() -> None:
    """Cells of the default study whole, then ResNet-18; ``--full``: at the paper's batch."""
    start()
    whole_cell("diamonds, N-pair + i-Mix", "diamonds", 1250)
    whole_cell("mnist, N-pair + i-Mix", "mnist", 1000)
    share("diamonds", "diamonds", 1250, 5)
    share("mnist, ResNet-10 of width 16", "mnist", 250, 3)
    share("spoken, ResNet-10 of width 16", "spoken", 250, 3)
    batch = 256 if "--full" in sys.argv else 32
    for precision in ("float32", "bfloat16"):
        found = share(
            f"ResNet-18, batch {batch}, {precision}",
            "cifar10",
            2 * batch,
            3,
            size=18,
            batch_size=batch,
            precision=precision,
        )
        against_plain(found, 2)


if __name__ == "__main__":
    main()
