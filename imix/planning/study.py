"""The trainings and evaluations of a study, and the price of each."""

import json
import math
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

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

    cell: Cell
    settings: Block  # of the training
    code: str  # of the training; of a baseline, its name
    seed: int
    group: str = ""  # the stages' name in dvc.yaml
    output: Path = Path()  # of its stage
    dataset: str = ""
    trains: bool = True
    done: bool = False
    steps: int = 0
    operations: float = 0.0
    memory: float = 0.0  # bytes
    seconds: float = 0.0


def _placed(jobs: Iterable[Job], group: str, output: Path, dataset: str, kinds: Iterable[bool]) -> list[Job]:
    return [j._replace(group=group, output=output, dataset=dataset, trains=kind) for kind in kinds for j in jobs]


def _stages(params: Params, files: dict[Path, Block]) -> Iterator[list[Job]]:
    """Yield the jobs of each stage; trainings come before evaluations."""
    for cell in (*params.grid.cells(), *params.grid.supervised_cells()):
        block, name = files[cell.path.with_suffix(".json")], cell.dataset
        seeds = [Job(cell, block["settings"], block["code"]["training"], seed) for seed in block["seeds"]]
        if cell.method == SUPERVISED:
            yield _placed(seeds, SUPERVISED, paths.encoders(cell), name, (True, False))
            continue
        yield _placed(seeds, "pretrain", paths.encoders(cell), name, (True,))
        yield _placed(seeds, "evaluate", paths.metrics(cell), name, (False,))
        for other in (pair.probed_on for pair in params.transfer.pairs if pair.pretrained_on == name):
            yield _placed(seeds, "transfer", paths.metrics(cell._replace(dataset=other), name), other, (False,))
    for name in params.grid.datasets:
        cell = next(cell for cell in params.grid.cells() if cell.dataset == name)
        settings, seeds = files[cell.path.with_suffix(".json")]["settings"], params.grid.seeds
        baselines = [Job(cell, settings, kind, seed) for kind in ("raw", "untrained") for seed in seeds]
        yield _placed(baselines, "baseline", paths.baseline(name), name, (False,))
        for ablation in params.ablations.run:
            block = files[Path("ablations", ablation, f"{name}.json")]
            found = [(v, seed) for v in block["variants"] for seed in block["seeds"]]
            trained = [Job(Cell(*v["cell"]), v["settings"], v["code"], seed) for v, seed in found]
            yield _placed(trained, "ablate", paths.ablation(ablation, name), name, (True, False))


class Prices:
    """Prices of one study's work.

    Args:
        files: what `imix.settings.resolved.resolved` made of ``params``. device: that steps are timed on.
        rate: operations a second, in place of timing. recorded: what DVC has, if anything.
    """

    def __init__(
        self, params: Params, files: dict[Path, Block], device: Any, rate: float | None, recorded: Recorded | None
    ) -> None:
        self.params, self.files, self.device, self.fixed, self.recorded = params, files, device, rate, recorded
        self.data, self.rows = cache(lambda name: data(params, name)), cache(self._rows)
        self.known: dict[str, Any] = {}

    def jobs(self) -> list[Job]:
        """Return all work, priced. Of equal jobs there is the first, and another one only where it alone is left."""
        found, seen, left = [], set(), set()
        for job in (job for stage in _stages(self.params, self.files) for job in stage):
            rows = self.rows(job.cell.dataset)
            key = jobs.training_key(job.cell.method, job.settings, job.code, job.seed, rows, self.device)
            done = self.recorded is not None and self.recorded.done(job.output)
            done = done or (job.trains and store.entry("trainings", key).finished())
            work = (key, "" if job.trains else job.dataset)
            if work not in (seen if done else left):
                found.append(self._priced(job._replace(done=done)))
            seen.add(work)
            left |= set() if done else {work}
        return found

    def _rows(self, dataset: str) -> str:
        """Return the SHA-256 of a data set's rows; its name where they are missing or have to be made again."""
        card = paths.tensors(dataset) / "card.json"
        there = card.exists() and (self.recorded is None or self.recorded.done(card.parent))
        return json.loads(card.read_text())["sha256"] if there else dataset

    def _priced(self, job: Job) -> Job:
        """Return the job with its price: an evaluation's, at the rate of the training, or a training's."""
        method, found, form = job.cell.method, self.data(job.cell.dataset), self.data(job.dataset).form
        key = json.dumps([method, found.form, job.settings])
        if key not in self.known:
            kind = found.module.KIND
            settings = domains.training_class(method, kind).model_validate(job.settings)
            half, shape = settings.precision == "bfloat16", (found.form.shape, found.form.column_groups)
            encoder = costs.encoding(kind, settings.encoder, *shape, half)
            one = costs.step(method, settings, encoder, found.form.classes)
            rate = self.fixed or timing.rate(kind, method, settings, found.form, one[0], self.device)
            self.known[key] = settings, encoder, rate, one
        settings, encoder, rate, one = self.known[key]
        if job.trains:
            steps, operations, memory = training(method, settings, found, encoder, one)
        else:
            probe = Probe.model_validate(self.files[Path(job.dataset, "evaluate.json")]["settings"]["probe"])
            encoder = costs.Encoding(math.prod(form.shape)) if job.code == "raw" else encoder
            steps, (operations, memory) = 0, costs.evaluation(encoder, form, probe)
        memory += (form.fit + form.validation + form.test) * math.prod(form.shape) * np.dtype(form.dtype).itemsize
        return job._replace(steps=steps, operations=operations, memory=memory, seconds=operations / rate)


def training(
    method: str, settings: Settings, found: Data, encoder: costs.Encoding, one: tuple[float, float]
) -> tuple[int, float, float]:
    """Return steps, operations and bytes of a training, its kNN included, from those of ``one`` step."""
    form, labels = found.form, plugins.find("methods", method).Method.supervised
    rows = form.fit if labels else form.train + form.unlabelled
    rows = min(rows, form.classes * math.ceil(rows / form.classes * settings.fraction))  # rounded up in each class
    steps = settings.epochs * (rows // settings.batch_size)
    watched = (form.fit + form.validation) * encoder.forward + 2 * form.fit * form.validation * encoder.features
    clean = form.fit + form.validation + (rows if settings.augmentation == "clean" else 0)  # kept as views
    view = 4 * math.prod(plugins.find("views", found.module.KIND).seen(form.shape))
    return steps, steps * one[0] + math.ceil(settings.epochs / settings.knn_every) * watched, one[1] + clean * view
