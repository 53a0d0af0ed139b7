"""Trainings to be timed: the study's own cells, on rows of noise, with another network, batch or precision."""

from dataclasses import replace
from functools import cache
from typing import Any

import torch

from imix import settings
from imix.planning import forms, timing
from imix.pretraining import Training


@cache
def params() -> settings.Params:
    """params.yaml."""
    return settings.load()


def cell(dataset: str, method: str, mix: str, size: float | None = None, **changes: Any) -> settings.Pretraining:
    """The settings of a cell, on one group.

    Args:
        size: depth of the residual network, or width of the tabular one, in place of the cell's own. changes: of other settings.
    """
    found = settings.resolve(params(), dataset, method, mix)
    if size is not None:
        change = {"depth": int(size)} if found.encoder.kind == "resnet" else {"width": size}
        changes["encoder"] = found.encoder.model_copy(update=change)
    return found.model_copy(update={"groups": 1} | changes)


def training(dataset: str, method: str, chosen: settings.Pretraining, rows: int | None = None) -> Training:
    """A training on ``rows`` rows of noise in the data set's form, one batch of them unless told."""
    data = timing.random_dataset(forms.form(params(), dataset), rows or chosen.batch_size, torch.device("cpu"))
    return Training(replace(data, carved=False), method, chosen, 0)  # all splits are the same rows


def views(of: Training) -> list[torch.Tensor]:
    """Both views of the first batch."""
    batch = of.rows[: of.settings.batch_size]
    return [of._view(batch, which) for which in (0, 1)]


def step(of: Training, pair: list[torch.Tensor]) -> None:
    """All of a step but its views, at a rate that changes nothing."""
    of.method.follow()
    of._loss(*pair).backward()
    of.optimiser.step(1e-6)
