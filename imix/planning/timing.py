"""Seconds on this machine, from a few timed steps that are kept in a file, or on a device of which operations a second are given."""

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from imix import checkpoints, settings
from imix.datasets import Dataset
from imix.evaluation import train_probes
from imix.features import BATCH, effective_rank, extract, frechet_distance, knn_accuracy, uniformity
from imix.files import write_json
from imix.methods import METHODS
from imix.planning.counting import FREE, Encoding, Step, figures
from imix.planning.forms import Form
from imix.pretraining import Training

WARM, STEPS, SECONDS = 2, 5, 0.5  # steps before timing; timed ones at least, unless SLOW, and for so long at least
SLOW = 1.0  # seconds of a step of which one is warm-up and two are timed
LARGEST = 1e11  # operations of a timed step; of larger ones, smaller batches are timed
# what every stage of this project needs, torch among it
START = """
import imix.checkpoints, imix.evaluation, imix.pretraining
from pathlib import Path
status = Path("/proc/self/status")
print(next((line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")), 0) if status.exists() else 0)
"""


class Start(NamedTuple):
    """A started process: seconds, bytes."""

    seconds: float
    memory: float


def random_dataset(rows: Form, size: int, device: torch.device) -> Dataset:
    """``size`` rows of noise in a data set's form."""
    numbers = rows.column_groups[0] if rows.column_groups else 0
    statistics = numbers or (rows.shape[0] if len(rows.shape) == 3 else 1)
    noise = torch.randn(size, *rows.shape)
    inputs = (noise * 50 + 128).clamp(0, 255) if rows.dtype == torch.uint8 else noise * (1000 if rows.dtype == torch.int16 else 1)
    inputs, labels = inputs.to(rows.dtype).to(device), (torch.arange(size) % rows.classes).to(device)
    names = ("train", "fit", "validation", "test")
    return Dataset(
        **dict.fromkeys(names, inputs),
        **{f"{name}_labels": labels for name in names},
        mean=torch.zeros(statistics, device=device),
        std=torch.ones(statistics, device=device),
        background=torch.zeros(1, 16_000, dtype=torch.int16, device=device),
        classes=[str(k) for k in range(rows.classes)],
        carved=True,
        column_groups=list(rows.column_groups),
        numbers=numbers,
        sha256="",
        card={},
    )


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds of ``work``, the median of several runs after some that are not counted.

    Where one thread works, time that other programs took from it does not count.
    """
    taken: list[float] = []
    warm, steps = WARM, STEPS
    while len(taken) < warm + steps or (sum(taken) < SECONDS and len(taken) < 200):
        started, busy = time.perf_counter(), time.process_time()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        passed = time.perf_counter() - started
        taken.append(min(passed, time.process_time() - busy) if device.type == "cpu" else passed)
        if taken[0] > SLOW:
            warm, steps = 1, 2
    return sorted(taken[warm:])[(len(taken) - warm) // 2]


def step_seconds(method: str, cell: settings.Pretraining, rows: Form, step: Step, device: torch.device) -> float:
    """Seconds of one step, views included; of a batch too large to time, from two smaller ones, on a line."""
    share = min(1.0, LARGEST / max(step.operations, 1))
    size, half = (max(2, int(cell.batch_size * part) // cell.groups) * cell.groups for part in (share, share / 2))
    taken = batch_seconds(method, cell, rows, size, device)
    if size >= cell.batch_size:
        return taken
    if half == size:
        return taken * cell.batch_size / size
    item = (taken - batch_seconds(method, cell, rows, half, device)) / (size - half)
    return taken + max(item, 0) * (cell.batch_size - size)


def batch_seconds(method: str, cell: settings.Pretraining, rows: Form, size: int, device: torch.device) -> float:
    """Seconds of one step of a batch of this size."""
    training = Training(random_dataset(rows, size, device), method, cell.model_copy(update={"batch_size": size, "fraction": 1.0}), 0)

    def work() -> None:
        loss = training.step_loss(torch.randperm(size))
        loss.backward()
        training.optimiser.step(1e-6)
        float(loss.detach())

    return seconds(work, device)


def encoding_seconds(domain: settings.Domain, rows: Form, encoder: Encoding, device: torch.device) -> float:
    """Seconds of one row's features, or of the raw inputs as such where the encoder has no operations."""
    size = max(2, min(BATCH, int(LARGEST / max(encoder.operations, 1))))
    dataset = random_dataset(rows, size, device)
    network, views = checkpoints.build(domain, dataset)
    encode = network if encoder.operations else nn.Flatten()
    return seconds(lambda: extract(encode, views, dataset.train), device) / size


def probing_seconds(features: int, classes: int, probe: settings.Probe, device: torch.device) -> float:
    """Seconds of one step of the probes, all rates at once."""
    batches = 4
    x, labels = torch.randn(batches * probe.batch_size, features, device=device), torch.arange(batches * probe.batch_size, device=device)
    once = probe.model_copy(update={"epochs": 1, "milestones": []})
    return seconds(lambda: train_probes([x], labels % classes, classes, once, 0), device) / batches


def figures_seconds(train: int, test: int, features: int, probe: settings.Probe, device: torch.device) -> float:
    """Seconds of the figures that need no training; of large feature matrices, smaller ones are timed and scaled."""
    sizes = [train, test, features]
    while figures(*sizes) > LARGEST / 20:  # fewer rows first: choosing neighbours does not depend on the features
        if min(sizes[:2]) > 2 * sizes[2]:
            sizes = [sizes[0] * 3 // 4, sizes[1] * 3 // 4, sizes[2]]
        else:
            sizes = [max(2, size * 3 // 4) for size in sizes]
    x, y = torch.randn(sizes[0], sizes[2], device=device), torch.randn(sizes[1], sizes[2], device=device)
    labels = [torch.arange(len(z), device=device) % 10 for z in (x, y)]

    def work() -> None:
        knn_accuracy(x, labels[0], y, labels[1], probe.neighbours)
        effective_rank(y)
        frechet_distance(x, y)
        uniformity(y[:2000])

    return seconds(work, device) * figures(train, test, features) / figures(*sizes)


class Machine:
    """The machine at hand, or a device that does ``rate`` operations a second; start-up is measured in either case.

    Args:
        device: to time steps on. rate: operations a second, in place of timing. cache: file that timings are kept in.
    """

    def __init__(self, device: torch.device, rate: float | None, cache: Path) -> None:
        self.device, self.rate, self.cache = device, rate, cache
        self.known: dict[str, Any] = {}
        with suppress(OSError, ValueError, TypeError):  # not there, or damaged: timed again
            self.known |= json.loads(cache.read_text())
        root = Path(__file__).parents[1]
        files = sorted(path for path in root.rglob("*.py") if path.parent.name not in ("reporting", "datasets"))
        code = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
        self.identity = [torch.__version__, str(device), torch.get_num_threads(), platform.node(), code]

    def _timed(self, what: list[Any], measure: Callable[[], Any]) -> Any:
        key = hashlib.sha256(json.dumps([*what, *self.identity]).encode()).hexdigest()
        if key not in self.known:
            self.known[key] = measure()
            write_json(self.cache, self.known)
        return self.known[key]

    def step(self, method: str, cell: settings.Pretraining, rows: Form, step: Step) -> float:
        """Seconds of one step of a training."""
        if self.rate:
            return step.operations / self.rate
        what = [method, cell.model_dump(exclude=FREE), rows.shape, rows.classes if METHODS[method].supervised else 0]
        return self._timed(["step", *what], lambda: step_seconds(method, cell, rows, step, self.device))

    def encoding(self, domain: settings.Domain, rows: Form, encoder: Encoding) -> float:
        """Seconds of one row's features."""
        if self.rate:
            return encoder.operations / self.rate
        what = [encoder.operations, domain.encoder.model_dump(), domain.views.model_dump(), rows.shape]
        return self._timed(["encoding", *what], lambda: encoding_seconds(domain, rows, encoder, self.device))

    def probing(self, features: int, rows: Form, probe: settings.Probe, operations: float) -> float:
        """Seconds of one step of the probes, which is so many operations."""
        if self.rate:
            return operations / self.rate
        what = [features, rows.classes, len(probe.rates), probe.batch_size]
        return self._timed(["probing", *what], lambda: probing_seconds(features, rows.classes, probe, self.device))

    def figures(self, features: int, rows: Form, probe: settings.Probe) -> float:
        """Seconds of the figures that need no training."""
        if self.rate:
            return figures(rows.train, rows.test, features) / self.rate
        what = [features, rows.train, rows.test, probe.neighbours]
        return self._timed(["figures", *what], lambda: figures_seconds(rows.train, rows.test, features, probe, self.device))

    def start(self) -> Start:
        """A started process that has imported what a training needs, on this machine's processor."""

        def once() -> Start:
            before = os.times()
            done = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, check=True)
            after = os.times()  # of the processor: other work beside it does not count
            return Start(after[2] + after[3] - before[2] - before[3], 1024 * float(done.stdout))

        return Start(*self._timed(["start"], once))
