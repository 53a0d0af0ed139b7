"""Operations a second of trainings on this machine: real steps on noise.

They are kept in the store's timings.json.
"""

import json
import time
from contextlib import suppress

import torch

from imix import identity, runtime, store
from imix.dataset import Dataset
from imix.files import write_json
from imix.methods import base
from imix.planning.costs import FREE
from imix.pretraining import Training
from imix.sources import Form

STEPS, SECONDS = 3, 0.3  # time at least this many steps, and for this long
LARGEST = 1e11  # operations; of a larger step, time a part of the batch


def noise(kind: str, form: Form, size: int, device: torch.device) -> Dataset:
    """Return a data set of noise in another one's form; all splits are the same ``size`` rows."""
    shape, splits = (size, *form.shape), ("train", "fit", "validation", "test")
    rows = torch.randint(256, shape) if form.dtype == "uint8" else torch.randn(shape) * (1 if form.numbers else 1000)
    rows, labels = rows.to(device, getattr(torch, form.dtype)), torch.arange(size, device=device) % form.classes
    width = form.numbers or (form.shape[0] if kind == "image" else 1)
    statistics = {"mean": torch.zeros(width, device=device), "std": torch.ones(width, device=device)}
    background = torch.zeros(1, 16_000, dtype=torch.int16, device=device)
    facts = {"carved": False, "numbers": form.numbers, "column_groups": list(form.column_groups)}
    facts |= {"kind": kind, "classes": list(map(str, range(form.classes))), "sha256": "", "card": {}}
    inputs = dict.fromkeys(splits, rows) | {f"{name}_labels": labels for name in splits}
    return Dataset(**inputs, **statistics, background=background, **facts)


def rate(kind: str, method: str, settings: base.Settings, form: Form, operations: float, device: torch.device) -> float:
    """Return the operations a second of a training's steps, views included.

    Args:
        kind: the domain. form: of the rows. operations: of one step.
    """
    path, known = store.root() / "timings.json", {}
    with suppress(OSError, ValueError, TypeError):  # missing or damaged: timed again
        known |= json.loads(path.read_text())
    what = [method, settings.model_dump(exclude=FREE), form.shape, form.classes]
    key = identity.digest([what, identity.training_code(method, kind), runtime.rounding(device)])
    if not isinstance(known.get(key), float):
        share = min(1.0, LARGEST / operations)
        size = max(2, int(settings.batch_size * share) // settings.groups) * settings.groups
        small = settings.model_copy(update={"batch_size": size, "fraction": 1.0})
        training = Training(noise(kind, form, size, device), method, small, 0)
        known[key] = operations * size / settings.batch_size / step_seconds(training)
        write_json(path, known)
    return known[key]


def step_seconds(training: Training) -> float:
    """Return the mean seconds of a step after a first one.

    On one thread, time that other programs took does not count.
    """
    clock = time.process_time if training.device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    started, count = 0.0, -1
    while count < STEPS or clock() - started < SECONDS:
        training.step_loss(torch.randperm(training.settings.batch_size)).backward()
        training.optimiser.step()  # at its first rate, 0: the weights stay as they are
        training.optimiser.zero_grad()
        training.check()  # waits for the device
        count += 1
        started = started if count else clock()
    return (clock() - started) / count
