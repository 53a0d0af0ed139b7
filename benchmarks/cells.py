"""Trainings to be timed: the study's own cells, on rows of noise, with another network, batch or precision."""

from functools import cache
from pathlib import Path
from typing import Any

import torch

from imix import domains
from imix.dataset import Dataset
from imix.evaluation import Probe
from imix.methods import base
from imix.paths import Cell
from imix.planning import timing
from imix.pretraining import Training
from imix.settings import loading, merging
from imix.settings.study import Params

ROOT = Path(__file__).parents[1]
HOST = torch.device("cpu")


@cache
def params() -> Params:
    """Return params.yaml."""
    return loading.load(ROOT / "params.yaml")


def cell(dataset: str, method: str, mix: str, size: float | None = None, **changes: Any) -> base.Settings:
    """Return the settings of an augmented cell, on one group.

    Args:
        size: depth of the residual network, or width of the tabular one, in place of the cell's own.
        changes: other settings.
    """
    found = merging.resolve(params(), Cell(dataset, "augmented", method, mix))
    if size is not None:
        change = {"depth": int(size)} if "depth" in type(found.encoder).model_fields else {"width": size}
        changes["encoder"] = found.encoder.model_copy(update=change)
    return found.model_copy(update={"groups": 1} | changes)


def probe(dataset: str) -> Probe:
    """Return how a data set's encoders are probed."""
    return Probe.model_validate(merging.evaluation_settings(params(), dataset)["probe"])


def noise(dataset: str, rows: int, device: torch.device = HOST) -> Dataset:
    """Return rows of noise in the form of a data set; all splits are the same rows."""
    found = merging.data(params(), dataset)
    return timing.noise(found.module.KIND, found.form, rows, device)


def views_settings(dataset: str) -> Any:
    """Return the settings of the views that a data set's encoders are evaluated with."""
    found = merging.evaluation_settings(params(), dataset)
    return domains.domain_class(found["kind"]).model_validate({k: found[k] for k in domains.Domain.model_fields}).views


def training(
    dataset: str, method: str, chosen: base.Settings, rows: int | None = None, device: torch.device = HOST
) -> Training:
    """Return a training on ``rows`` rows of noise, by default on one batch of them."""
    return Training(noise(dataset, rows or chosen.batch_size, device), method, chosen, 0)


def views(of: Training) -> list[torch.Tensor]:
    """Return both views of the first batch."""
    batch = of.rows[: of.settings.batch_size]
    return [of.views(batch, which, of.streams.views) for which in (0, 1)]


def step(of: Training) -> None:
    """Take a step, its views included, at the optimiser's first rate, 0, which changes nothing."""
    of.step_loss(torch.arange(of.settings.batch_size)).backward()
    of.optimiser.step()
    of.optimiser.zero_grad()


def still(of: Training) -> Training:
    """Give a training views that are made once, so that `step` times all the rest."""
    pair, of.clean = views(of), None
    of.views = lambda rows, which, generator: pair[which]  # type: ignore[assignment]
    return of
