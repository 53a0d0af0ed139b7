"""Steps, views and epochs on a GPU: ours against the plain reference, with the share of the card's own peak.

python -m benchmarks.gpu_speed RESULTS [--seconds 150] [--tiny]
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F

from benchmarks import cells
from benchmarks.gpu_tables import Table
from benchmarks.plain import PIL_VIEW, PlainStep, pictures
from imix import runtime
from imix.methods import base
from imix.planning import costs
from imix.pretraining import Training
from imix.settings import merging

METHODS = ("moco", "npair", "byol")
NETWORKS = (("ResNet-18", "cifar10", 18, 256), ("ResNet-50", "cifar10", 50, 256), ("MLP x 1", "covtype", 1.0, 512))
TINY = (("ResNet-18", "cifar10", 18, 2), ("MLP x 1/64", "covtype", 1 / 64, 8))
# ours, by what changes; warm-up has the seconds of compiling
VARIANTS = {
    "float32": {"precision": "float32"},
    "tf32": {"precision": "tf32"},
    "bfloat16": {"precision": "bfloat16"},
    "bfloat16 compiled": {"precision": "bfloat16", "compile": True},
}


class Side(NamedTuple):
    """Work to be timed, and the precision of float32 products in it; the reference need not be deterministic."""

    work: Callable[[], object]
    precision: str = "float32"
    deterministic: bool = True


class Bench:
    """The device, how often things are timed there, and the time that is left."""

    def __init__(self, folder: Path, seconds: float, tiny: bool) -> None:
        self.device, self.tiny = runtime.configure(), tiny
        self.folder, self.end = folder, time.monotonic() + seconds
        self.rounds, self.repeats = (1, 1) if tiny else (5, 10)
        self.peaks: dict[str, float] = {}

    def late(self) -> bool:
        """Return whether the time is up."""
        return time.monotonic() > self.end

    def timed(self, side: Side, times: int) -> float:
        """Return the seconds of doing the work so many times, from an idle device to an idle device."""
        runtime.set_precision(side.precision)
        torch.use_deterministic_algorithms(side.deterministic and self.device.type == "cuda")
        self._wait()
        started = time.perf_counter()
        for _ in range(times):
            side.work()
        self._wait()
        return time.perf_counter() - started

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def race(self, sides: Mapping[str, Side], repeats: int = 0) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Return each side's seconds of warm-up, and of the work once a round in turn."""
        repeats = repeats or self.repeats
        warm = {name: self.timed(side, 1 if self.tiny else 3) for name, side in sides.items()}
        found: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(self.rounds):
            for name, side in sides.items():
                found[name].append(self.timed(side, repeats) / repeats)
        return warm, found

    def peak(self, precision: str) -> float:
        """Return operations a second of the best square matrix product."""
        if precision not in self.peaks:
            dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
            found = []
            for size in (128,) if self.tiny else (4096, 8192):
                a, b = (torch.randn(size, size, device=self.device, dtype=dtype) for _ in range(2))
                product = Side(partial(F.linear, a, b), "tf32" if precision == "tf32" else "float32")
                found.append(2 * size**3 / min(self.race({"": product})[1][""]))
            self.peaks[precision] = max(found)
        return self.peaks[precision]


def operations(dataset: str, method: str, settings: base.Settings) -> float:
    """Return the operations of a step, as `python -m imix plan` counts them."""
    found = merging.data(cells.params(), dataset)
    form, half = found.form, settings.precision == "bfloat16"
    encoder = costs.encoding(found.module.KIND, settings.encoder, form.shape, form.column_groups, half)
    return costs.step_cost(method, settings, encoder, form.classes)[0]


def spread(seconds: list[float]) -> dict[str, float | int]:
    """Return median, least and greatest milliseconds, and their number."""
    low, high = min(seconds), max(seconds)
    return {"ms": 1e3 * statistics.median(seconds), "least": 1e3 * low, "greatest": 1e3 * high, "n": len(seconds)}


def steps(bench: Bench, table: Table, name: str, dataset: str, size: float, batch: int, method: str) -> None:
    """Time a step with views made once, plain and in each variant; and what i-Mix adds."""
    kinds = {(variant, "none"): changes for variant, changes in VARIANTS.items()}
    kinds |= {("tf32", "imix"): VARIANTS["tf32"], ("bfloat16", "imix"): VARIANTS["bfloat16"]}
    if bench.tiny:
        kinds = {key: kinds[key] for key in (("float32", "none"), ("bfloat16", "imix"))}
    trainings, sides = {}, {}
    for (variant, mix), changes in kinds.items():
        chosen = cells.cell(dataset, method, mix, size, batch_size=batch, **changes)
        training = cells.still(cells.training(dataset, method, chosen, device=bench.device))
        trainings[variant, mix] = training
        sides[f"{variant} {mix}"] = Side(partial(cells.step, training), chosen.precision)
    first = next(iter(trainings.values()))
    pair, plain = cells.views(first), PlainStep(method, first.settings, first.dataset.column_groups, bench.device)
    warm, found = bench.race({"plain": Side(partial(plain, *pair), deterministic=False)} | sides)
    about = {"network": name, "batch": batch, "method": method}
    table.add(**about, variant="plain float32", mix="none", **spread(found["plain"]), warm_up_s=warm["plain"])
    for (variant, mix), training in trainings.items():
        seconds, precision = found[f"{variant} {mix}"], training.settings.precision
        rate = operations(dataset, method, training.settings) / statistics.median(seconds)
        ratio = statistics.median(a / b for a, b in zip(found["plain"], seconds, strict=True))
        share = {"tera_ops": rate / 1e12, "peak_percent": 100 * rate / bench.peak(precision)}
        warm_up = warm[f"{variant} {mix}"]
        table.add(**about, variant=variant, mix=mix, **spread(seconds), warm_up_s=warm_up, times_plain=ratio, **share)


def views(bench: Bench, table: Table, dataset: str, batch: int) -> None:
    """Time both views of a batch on the device; images also one after the other with PIL, on the host."""
    training = cells.training(
        dataset, "moco", cells.cell(dataset, "moco", "none", batch_size=batch), device=bench.device
    )
    sides = {"ours": Side(partial(cells.views, training))}
    found = bench.race(sides)[1]["ours"]
    table.add(data=dataset, batch=batch, side="ours", **spread(found))
    if dataset == "cifar10":
        items = pictures(training.rows)
        found = bench.race({"PIL": Side(lambda: [PIL_VIEW(item) for item in items for _ in range(2)])}, 1)[1]["PIL"]
        table.add(data=dataset, batch=batch, side="PIL on one core", **spread(found))


def epoch(bench: Bench, table: Table, name: str, dataset: str, size: float, batch: int) -> None:
    """Time an epoch of plain MoCo, views included, and the same with views that are made once."""
    count = 2 if bench.tiny else 29  # CovType's
    for precision in ("float32",) if bench.tiny else ("tf32", "bfloat16"):
        chosen = cells.cell(dataset, "moco", "none", size, batch_size=batch, precision=precision)
        made = [cells.training(dataset, "moco", chosen, count * batch, bench.device) for _ in range(2)]
        fixed = cells.still(made[1])
        sides = {"whole": made[0], "views made once": fixed}
        found = bench.race({key: Side(partial(walk, each), precision) for key, each in sides.items()}, 1)[1]
        for side, seconds in found.items():
            table.add(network=name, batch=batch, steps=count, precision=precision, side=side, **spread(seconds))


def walk(training: Training) -> None:
    """Take the steps of an epoch, without the kNN that watches it, at a rate of 0."""
    for rows in torch.randperm(len(training.rows)).split(training.settings.batch_size):
        training.step_loss(rows).backward()
        training.optimiser.step()
        training.optimiser.zero_grad()


def main() -> None:
    """Run as much as there is time for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--tiny", action="store_true", help="sizes that show whether it runs")
    args = parser.parse_args()
    bench, networks = Bench(args.folder, args.seconds, args.tiny), TINY if args.tiny else NETWORKS
    tables = {name: Table(args.folder, name) for name in ("step", "views", "epoch")}
    batches = {"cifar10": 256, "speech_commands": 256, "covtype": 512}
    work = [partial(steps, bench, tables["step"], *network, METHODS[0]) for network in networks]
    work += [partial(views, bench, tables["views"], name, 8 if bench.tiny else batches[name]) for name in batches]
    work += [partial(epoch, bench, tables["epoch"], *network) for network in networks[-1 if bench.tiny else 0 :]]
    others = () if bench.tiny else METHODS[1:]
    work += [partial(steps, bench, tables["step"], *network, method) for method in others for network in networks]
    for done, case in enumerate(work):
        if bench.late():
            print(f"time is up: {len(work) - done} of {len(work)} cases were not timed", flush=True)
            break
        case()


if __name__ == "__main__":
    main()
