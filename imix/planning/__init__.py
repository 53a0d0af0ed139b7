"""What a study will cost before it is paid: trainings, steps, operations, memory and time of every stage, and which are done."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from imix import settings
from imix.errors import UserError
from imix.files import DATA, ablation_folder, baseline_folder, encoder_file, metrics_folder
from imix.methods import METHODS
from imix.planning.counting import Encoding, count, encoding, evaluation, raw
from imix.planning.done import Cached, cached
from imix.planning.forms import Form, form
from imix.planning.timing import Machine

__all__ = ["Cached", "Cost", "Job", "Machine", "cached", "plan"]

SECONDS_PER_PAGE = 5.0  # of a report stage, pandas and matplotlib included; measured on one core of an AMD EPYC
SECONDS_PER_PLOT = 1.0  # of one ablation in the report
SECONDS_PER_POINT = 0.005  # of one row in one t-SNE
GROUPS = {
    "settings": "params.yaml and code",
    "data": "fetch, preprocess",
    "pretrain": "the grid's trainings",
    "evaluate": "probes, kNN, baselines, transfer",
    "ablate": "trainings and evaluations",
    "report": "tables, plots, projections",
}


class Cost(NamedTuple):
    """Of one piece of work: optimiser steps, operations, bytes of memory, seconds."""

    steps: int = 0
    operations: float = 0
    memory: float = 0
    seconds: float = 0

    def __add__(self, other: "Cost") -> "Cost":  # type: ignore[override]
        """One after the other."""
        return Cost(self[0] + other[0], self[1] + other[1], max(self[2], other[2]), self[3] + other[3])

    def times(self, count: int) -> "Cost":
        """The same work so often, one after the other."""
        return Cost(self.steps * count, self.operations * count, self.memory, self.seconds * count)


class Job(NamedTuple):
    """A stage, or one training of an ablation's stage."""

    group: str  # of `GROUPS`
    name: str  # what runs, without a training's seed
    output: Path  # what its stage writes
    trainings: int  # 1 or 0
    cost: Cost
    done: bool


class Prices:
    """Costs of one study's trainings and evaluations on one machine."""

    def __init__(self, params: settings.Params, machine: Machine) -> None:
        self.machine, self.probes = machine, params.probe
        self.forms: dict[str, Form] = {dataset: form(params, dataset) for dataset in params.grid.datasets}
        self.base = 0 if machine.rate else machine.start().memory

    def training(self, dataset: str, method: str, cell: settings.Pretraining) -> Cost:
        """One training with the kNN that watches it.

        Raises:
            UserError: a batch larger than the rows.
        """
        rows = self.forms[dataset]
        every = rows.fit if METHODS[method].supervised else rows.train
        most = settings.at_most(every, cell.fraction, rows.classes)
        if cell.batch_size > most:
            raise UserError(f"params.yaml: batch_size = {cell.batch_size}: must be at most the {most} training rows of {dataset}")
        steps = cell.epochs * max(1, int(every * cell.fraction) // cell.batch_size)
        step, domain = count(method, cell, rows.one(METHODS[method].supervised)), settings.Domain(encoder=cell.encoder, views=cell.views)
        encoder = encoding(domain, rows.one(False))
        watched = (rows.fit + rows.validation) * encoder.operations + 2 * rows.fit * rows.validation * encoder.features
        watched *= math.ceil(cell.epochs / cell.knn_every)
        seconds = steps * self.machine.step(method, cell, rows, step)
        seconds += watched / encoder.operations * self.machine.encoding(domain, rows, encoder)
        return Cost(steps, steps * step.operations + watched, self.base + rows.memory + step.memory, seconds)

    def evaluation(self, dataset: str, domain: settings.Domain, encoder: Encoding | None = None) -> Cost:
        """One evaluation, of a network or of another ``encoder``'s features."""
        rows, probe = self.forms[dataset], self.probes[dataset]
        domain = settings.Domain(encoder=domain.encoder, views=domain.views)
        encoder = encoder or encoding(domain, rows.one(False))
        found = evaluation(encoder, rows, probe)
        seconds = found.rows * self.machine.encoding(domain, rows, encoder)
        seconds += found.steps * self.machine.probing(encoder.features, rows, probe, found.probes / found.steps)
        seconds += self.machine.figures(encoder.features, rows, probe)
        operations = found.rows * encoder.operations + found.probes + found.figures
        return Cost(0, operations, self.base + rows.memory + found.memory, seconds)


def plan(params: settings.Params, machine: Machine, cached: Cached | None) -> list[Job]:
    """Everything that ``dvc repro`` has stages for; done is what ``cached`` has, nothing without it.

    Raises:
        UserError: a batch larger than the rows, or a source whose form is not known here.
    """
    prices = Prices(params, machine)
    steps = (_data, _grid, _transfer, _ablations, _report)
    jobs = [job for step in steps for job in step(params, prices)]
    jobs = [job._replace(done=cached.done(job.output)) if cached and job.group != "ablate" else job for job in jobs]
    return _ablated(params, jobs, cached) if cached else jobs


def _data(params: settings.Params, prices: Prices) -> Iterator[Job]:
    yield Job("settings", "", settings.FOLDER, 0, Cost(), False)
    for dataset in params.grid.datasets:
        seconds = prices.forms[dataset].seconds
        yield Job("data", f"{dataset}: fetch", DATA / dataset / "raw", 0, Cost(), False)
        yield Job("data", f"{dataset}: preprocess", DATA / dataset / "tensors", 0, Cost(seconds=seconds), False)


def _grid(params: settings.Params, prices: Prices) -> Iterator[Job]:
    seeds = len(params.grid.seeds)
    for dataset in params.grid.datasets:
        domain = settings.domain(params, dataset)
        baseline = prices.evaluation(dataset, domain, raw(prices.forms[dataset])) + prices.evaluation(dataset, domain)
        baseline += prices.evaluation(dataset, settings.resolve(params, dataset, *settings.SUPERVISED))
        yield Job("evaluate", f"{dataset} baselines", baseline_folder(dataset), 0, baseline.times(seeds), False)
        for method, mix in params.grid.cells():
            cell = settings.resolve(params, dataset, method, mix)
            name, trained, judged = f"{dataset} {method} {mix}", prices.training(dataset, method, cell), prices.evaluation(dataset, cell)
            for seed in params.grid.seeds:
                yield Job("pretrain", name, encoder_file(dataset, method, mix, seed), 1, trained, False)
            if (method, mix) != settings.SUPERVISED:  # which is judged among the baselines
                yield Job("evaluate", name, metrics_folder(dataset, method, mix), 0, judged.times(seeds), False)


def _transfer(params: settings.Params, prices: Prices) -> Iterator[Job]:
    for source, target in ((pair.pretrained_on, pair.probed_on) for pair in params.transfer.pairs):
        for method, mix in ((method, mix) for method in params.grid.methods for mix in params.grid.mixes):
            judged = prices.evaluation(target, settings.resolve(params, source, method, mix))
            name, output = f"{source} to {target} {method} {mix}", metrics_folder(target, method, mix, source)
            yield Job("evaluate", name, output, 0, judged.times(len(params.grid.seeds)), False)


def _ablations(params: settings.Params, prices: Prices) -> Iterator[Job]:
    for name in params.ablations.run:
        for dataset in params.ablations.datasets:
            for v in settings.variants(params, name, dataset).variants:
                cell = v.pretraining()
                cost = prices.training(dataset, v.method, cell) + prices.evaluation(dataset, cell)
                for seed in params.ablations.seeds:
                    output = ablation_folder(name, dataset, seed)
                    yield Job("ablate", f"{dataset} {name} {v.value} {v.method} {v.mix}", output, 1, cost, False)


def _ablated(params: settings.Params, jobs: list[Job], cached: Cached) -> list[Job]:
    """The jobs, with those trainings of ablations done whose results are there."""
    done = {}
    for name in params.ablations.run:
        for dataset in params.ablations.datasets:
            asked = settings.variants(params, name, dataset)
            for seed in params.ablations.seeds:
                output, found = ablation_folder(name, dataset, seed), cached.variants(name, dataset, seed, asked)
                for v, there in zip(asked.variants, found, strict=True):
                    done[output, f"{dataset} {name} {v.value} {v.method} {v.mix}"] = there
    return [job._replace(done=done[job.output, job.name]) if job.group == "ablate" else job for job in jobs]


def _report(params: settings.Params, prices: Prices) -> Iterator[Job]:
    folder, cells = Path("reports"), len(params.grid.methods) * len(params.grid.mixes)
    yield Job("report", "tables", folder / params.grid.name / "results.csv", 0, Cost(seconds=SECONDS_PER_PAGE), False)
    ablated = SECONDS_PER_PAGE + SECONDS_PER_PLOT * len(params.ablations.run)
    yield Job("report", "ablations", folder / "ablations.md", 0, Cost(seconds=ablated), False)
    for dataset in params.grid.datasets:
        drawn = SECONDS_PER_PAGE + SECONDS_PER_POINT * params.projection.rows * cells
        yield Job("report", f"{dataset}: projection", folder / "projections" / f"{dataset}.png", 0, Cost(seconds=drawn), False)
