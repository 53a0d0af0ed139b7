"""Tabular views: standardised numbers, each masked at random; flags do not change."""

from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from imix.encoders.mlp import TabularMLP
from imix.errors import UserError
from imix.schema import Fraction, Strict
from imix.sending import send
from imix.views.base import Statistics

Encoder = TabularMLP


class Settings(Strict):
    """Masking of the numbers, one probability per view."""

    masking: Annotated[list[Fraction], Field(min_length=2, max_length=2)]


NEUTRAL = Settings(masking=[0.0, 0.0])  # of clean cells, which draw no views


def seen(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the encoder's input for a row of ``shape`` (columns,): the same."""
    return shape


def check_rows(inputs: NDArray[np.generic], name: str, where: str) -> None:
    """Raise UserError unless ``inputs`` are rows of this domain: float32 (N, columns), finite.

    Args:
        name: of the array, as in "train". where: the file or data set that holds it.
    """
    if inputs.dtype != np.float32 or inputs.ndim != 2 or not inputs.shape[1]:
        raise UserError(f"{where}: {name} is {inputs.dtype} {inputs.shape}; must be float32 (N, columns)")
    finite = np.isfinite(inputs)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise UserError(f"{where}: {name} is {inputs[row, column]} in row {row}, column {column}; must be finite")


class Views:
    """Views of rows (N, columns) float32: first ``numbers`` numeric columns, then flags.

    Args:
        settings: the masking probability of either view.
        statistics: mean and std (numbers,) of the training rows, and ``numbers``.
    """

    def __init__(self, settings: Settings, statistics: Statistics) -> None:
        self.masking = settings.masking
        self.mean, self.std, self.numbers = statistics.mean, statistics.std, statistics.numbers

    def clean(self, rows: Tensor) -> Tensor:
        """Standardise the numbers, (N, columns) -> (N, columns) float32."""
        return torch.cat([(rows[:, : self.numbers] - self.mean) / self.std, rows[:, self.numbers :]], dim=1)

    def __call__(self, rows: Tensor, which: int, generator: torch.Generator) -> Tensor:
        """Standardise, then set each number to its mean, zero, with the view's probability."""
        keep = torch.rand(len(rows), self.numbers, generator=generator) >= self.masking[which]
        view = self.clean(rows)
        view[:, : self.numbers] *= send(keep, view.device)
        return view
