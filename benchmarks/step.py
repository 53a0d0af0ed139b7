"""Training steps without views: ours in float32 and bfloat16 against a plain eager one; i-Mix against plain ones."""

import statistics
import sys
from functools import partial

from benchmarks import cells, excess, race, ratio, start
from benchmarks.plain import PlainStep

METHODS = ("npair", "moco", "byol")
QUICK = [  # name, data set whose cell it is, depth or width, batch, methods, rounds
    ("ResNet-18", "cifar10", 18, 32, METHODS, 3),
    ("MLP x 1/16", "covtype", 1 / 16, 512, METHODS, 11),
    ("MLP x 1/4", "covtype", 1 / 4, 512, METHODS, 7),
    ("MLP x 1", "covtype", 1, 512, ("moco",), 3),
]
FULL = [
    *(("ResNet-18", "cifar10", 18, batch, METHODS, 5) for batch in (128, 256)),
    *(("ResNet-50", "cifar10", 50, batch, METHODS, 3) for batch in (128, 256)),
    *((f"MLP x {width}", "covtype", width, 512, METHODS, 11) for width in (1 / 16, 1 / 4, 1)),
]


def case(name: str, dataset: str, size: float, batch: int, method: str, rounds: int) -> None:
    """One line: both ratios, and what i-Mix costs in float32."""
    kinds = [("none", "float32"), ("none", "bfloat16"), ("imix", "float32")]
    chosen = [cells.cell(dataset, method, mix, size, batch_size=batch, precision=p) for mix, p in kinds]
    trainings = [cells.training(dataset, method, each) for each in chosen]
    pair = cells.views(trainings[0])
    trainings = [cells.still(each) for each in trainings]
    plain = PlainStep(method, trainings[0].settings, trainings[0].dataset.column_groups)
    sides = {"plain": partial(plain, *pair)}
    sides |= {f"{mix} {p}": partial(cells.step, t) for (mix, p), t in zip(kinds, trainings, strict=True)}
    times = race(sides, rounds)
    print(
        f"{name}, batch {batch}, {method}, n = {rounds}: "
        f"float32 {ratio(times['none float32'], times['plain'])} times as fast, "
        f"bfloat16 {ratio(times['none bfloat16'], times['plain'])}; "
        f"i-Mix {excess(times['imix float32'], times['none float32'])}; "
        f"plain step {statistics.median(times['plain']) * 1e3:.1f} ms",
        flush=True,
    )


def main() -> None:
    """Every network and method; ``--full``: the sizes that the paper trains."""
    start()
    for name, dataset, size, batch, methods, rounds in FULL if "--full" in sys.argv else QUICK:
        for method in methods:
            case(name, dataset, size, batch, method, rounds)


if __name__ == "__main__":
    main()
