"""Share of the machine's own peak, its best convolution or matrix product as measured, that a training step reaches."""

import statistics
import sys
import time
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import cells, race, start
from imix.planning import costs
from imix.settings import merging

SIDES = (512, 1024, 2048)  # of square matrices
CONVOLUTIONS = ((64, 32), (128, 16), (256, 8), (512, 4))  # channels and side of 3x3 ones, a ResNet's own
BATCH = 64


def peak(precision: str) -> dict[str, float]:
    """Return operations a second of the best square matrix product and of the best convolution, forward."""
    dtype, found = getattr(torch, precision), {"matrix product": 0.0, "convolution": 0.0}

    def best(kind: str, operations: float, function: object, *arguments: Tensor | int | None) -> None:
        times = race({kind: partial(function, *arguments)}, 5)[kind]
        found[kind] = max(found[kind], operations / min(times))

    for side in SIDES:
        a, b = (torch.randn(side, side).to(dtype) for _ in (0, 1))
        best("matrix product", 2 * side**3, F.linear, a, b)
    for channels, side in CONVOLUTIONS:
        x, w = torch.randn(BATCH, channels, side, side).to(dtype), torch.randn(channels, channels, 3, 3).to(dtype)
        x, w = (z.contiguous(memory_format=torch.channels_last) for z in (x, w))
        best("convolution", 18 * channels**2 * BATCH * side**2, F.conv2d, x, w, None, 1, 1)
    return found


def case(name: str, dataset: str, size: float, batch: int, rounds: int) -> None:
    """Print a line per precision for MoCo's step; `imix plan` counts operations, each round measures the peak."""
    for precision in ("float32", "bfloat16"):
        cell = cells.cell(dataset, "moco", "none", size, batch_size=batch, precision=precision)
        training = cells.training(dataset, "moco", cell)
        found = merging.data(cells.params(), dataset)
        kind, form, half = found.module.KIND, found.form, precision == "bfloat16"
        encoder = costs.encoding(kind, cell.encoder, form.shape, form.column_groups, half)
        operations, _ = costs.step_cost("moco", cell, encoder, form.classes)
        shares, peaks = [], []
        cells.still(training)
        for _ in range(rounds):
            peaks.append(peak(precision))
            seconds = race({"step": partial(cells.step, training)}, 1)["step"][0]
            shares.append(100 * operations / seconds / max(peaks[-1].values()))
        kinds = ", ".join(f"{kind} {statistics.median(p[kind] for p in peaks) / 1e9:.0f}" for kind in peaks[0])
        print(
            f"{name}, batch {batch}, {precision}, n = {rounds}: {statistics.median(shares):.0f} % of the peak "
            f"({min(shares):.0f} to {max(shares):.0f}); peak in 1e9 operations a second: {kinds}; "
            f"a step has {operations / 1e9:,.0f}",
            flush=True,
        )


def main() -> None:
    """ResNet-18 and the wide tabular network; ``--full``: larger batches, and ResNet-50."""
    start()
    full, started = "--full" in sys.argv, time.perf_counter()
    case("ResNet-18", "cifar10", 18, 128 if full else 32, 3)
    case("MLP x 1", "covtype", 1.0, 512, 3)
    if full:
        case("ResNet-50", "cifar10", 50, 64, 3)
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
