"""The trainings and evaluations of a study, and the price of each."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from imix import domains, jobs, paths, plugins, store
from imix.evaluation import Probe
from imix.methods.base import Settings
from imix.paths import Cell
from imix.planning import costs, timing
from imix.planning.done import Recorded
from imix.settings.merging import Block, Data, data
from imix.settings.study import SUPERVISED, Params


class Job(NamedTuple):
    """One training, or one evaluation on ``dataset``, with its price."""

    group: str  # the stages' name in dvc.yaml
    output: Path  # of its stage
    dataset: str
    trains: bool
    cell: Cell
    settings: Block  # of the training
    code: str  # of the training; of a baseline, its name
    seed: int
    done: bool = False
    steps: int = 0
    operations: float = 0.0
    memory: float = 0.0  # bytes
    seconds: float = 0.0


def priced(
    params: Params, files: dict[Path, Block], device: torch.device, rate: float | None, recorded: Recorded | None
) -> list[Job]:
    """Return all work of a study.

    Of equal jobs there is the first, and another one only where it alone is left.

    Args:
        files: what `imix.settings.resolved.resolved` made of ``params``. device: that steps are
            timed on.
        rate: operations a second, in place of timing. recorded: what DVC has, if anything.
    """
    known = {name: data(params, name) for name in params.grid.datasets}
    probes = {name: Probe.model_validate(files[Path(name, "evaluate.json")]["settings"]["probe"]) for name in known}
    rows = {name: _rows_sha256(name, recorded) for name in known}
    found, seen, left = [], set(), set()
    for places, trainings in _stages(params, files):
        for job in (Job(*place, *training) for place in places for training in trainings):
            key = jobs.training_key(job.cell.method, job.settings, job.code, job.seed, rows[job.cell.dataset], device)
            done = recorded is not None and recorded.done(job.output.as_posix())
            done = done or (job.trains and store.entry("trainings", key).finished())
            work = (key, "" if job.trains else job.dataset)
            if work not in (seen if done else left):
                found.append(_priced(job._replace(done=done), known, probes[job.dataset], device, rate))
            seen.add(work)
            left |= set() if done else {work}
    return found


def _stages(params: Params, files: dict[Path, Block]) -> Iterator[tuple[list[Any], list[Any]]]:
    """Yield pairs of lists; each combination is a job: `group` to `trains`, `cell` to `seed`."""
    for cell in (*params.grid.cells(), *params.grid.supervised_cells()):
        block, name, encoders = files[cell.path.with_suffix(".json")], cell.dataset, paths.encoders(cell)
        places = [("pretrain", encoders, name, True), ("evaluate", paths.metrics(cell), name, False)]
        if cell.method == SUPERVISED:
            places = [(SUPERVISED, encoders, name, True), (SUPERVISED, encoders, name, False)]
        for other in (pair.probed_on for pair in params.transfer.pairs if pair.pretrained_on == name):
            if cell.method != SUPERVISED:
                places.append(("transfer", paths.metrics(cell._replace(dataset=other), name), other, False))
        yield places, [(cell, block["settings"], block["code"]["training"], seed) for seed in block["seeds"]]
    for name in params.grid.datasets:
        cell = next(cell for cell in params.grid.cells() if cell.dataset == name)
        settings = files[cell.path.with_suffix(".json")]["settings"]
        baselines = [(cell, settings, kind, seed) for kind in ("raw", "untrained") for seed in params.grid.seeds]
        yield [("baseline", paths.baseline(name), name, False)], baselines
        for ablation in params.ablations.run:
            block, output = files[Path("ablations", ablation, f"{name}.json")], paths.ablation(ablation, name)
            found = [(Cell(*v["cell"]), v["settings"], v["code"], s) for v in block["variants"] for s in block["seeds"]]
            yield [("ablate", output, name, True), ("ablate", output, name, False)], found


def _rows_sha256(dataset: str, recorded: Recorded | None) -> str:
    """Return the SHA-256 of a data set's rows.

    Return its name where they are missing or have to be made again.
    """
    card = paths.tensors(dataset) / "card.json"
    there = card.exists() and (recorded is None or recorded.done(card.parent.as_posix()))
    return json.loads(card.read_text())["sha256"] if there else dataset


def _priced(job: Job, known: dict[str, Data], probe: Probe, device: torch.device, rate: float | None) -> Job:
    """Return the job with its price, at the operations a second of its training."""
    method, found, form = job.cell.method, known[job.cell.dataset], known[job.dataset].form
    kind = found.module.KIND
    settings = domains.training_class(method, kind).model_validate(job.settings)
    half = settings.precision == "bfloat16"
    encoder = costs.encoding(kind, settings.encoder, found.form.shape, found.form.column_groups, half)
    step = costs.step_cost(method, settings, encoder, found.form.classes)
    rate = rate or timing.rate(kind, method, settings, found.form, step[0], device)
    if job.trains:
        steps, operations, memory = training_cost(method, settings, found, encoder, step)
    else:
        encoder = costs.Encoding(math.prod(form.shape)) if job.code == "raw" else encoder
        steps, (operations, memory) = 0, costs.evaluation_cost(encoder, form, probe)
    memory += (form.fit + form.validation + form.test) * math.prod(form.shape) * np.dtype(form.dtype).itemsize
    return job._replace(steps=steps, operations=operations, memory=memory, seconds=operations / rate)


def training_cost(
    method: str, settings: Settings, found: Data, encoder: costs.Encoding, step: tuple[float, float]
) -> tuple[int, float, float]:
    """Return steps, operations and bytes of a training and its kNN, from those of one ``step``."""
    form, labels = found.form, plugins.find("methods", method).Method.supervised
    rows = form.fit if labels else form.train + form.unlabelled
    rows = min(rows, form.classes * math.ceil(rows / form.classes * settings.fraction))  # rounded up in each class
    steps = settings.epochs * (rows // settings.batch_size)
    watched = (form.fit + form.validation) * encoder.forward + 2 * form.fit * form.validation * encoder.features
    clean = form.fit + form.validation + (rows if settings.augmentation == "clean" else 0)  # kept as views
    view = 4 * math.prod(plugins.find("views", found.module.KIND).seen(form.shape))
    return steps, steps * step[0] + math.ceil(settings.epochs / settings.knn_every) * watched, step[1] + clean * view
