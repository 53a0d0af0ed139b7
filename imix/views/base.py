"""What all domains share: the interface of views, statistics of the rows, draws on the host."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Statistics(NamedTuple):
    """What views need to know of a data set's training rows.

    Args:
        mean, std: (K,) float32, of each channel (image), of all spectrograms (speech, K = 1), or of
            each number (tabular). On the device that the views run on.
        numbers: tabular only, how many columns hold numbers; the columns after them are flags.
        background: speech only, (M, 16000) int16 seconds of noise; None or empty if there is none.
    """

    mean: Tensor
    std: Tensor
    numbers: int = 0
    background: Tensor | None = None


class Views(Protocol):
    """What pretraining and evaluation need of a domain."""

    def __call__(self, rows: Tensor, which: int, generator: torch.Generator) -> Tensor:
        """Return a random view of every row, (N, ...) as stored -> (N, ...) float32.

        Args:
            which: 0 or 1, the first or the second view.
            generator: a host generator.
        """

    def clean(self, rows: Tensor) -> Tensor:
        """Return the rows as the encoder sees them in evaluation, in the form of a view."""


def uniform(size: int | tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Draw U(low, high) on the host, of shape ``size``."""
    return torch.rand(size, generator=generator) * (high - low) + low


def chosen(size: int, probability: float, generator: torch.Generator) -> Tensor:
    """Draw the items that a transform applies to; return their indices (M,) on the host."""
    return (torch.rand(size, generator=generator) < probability).nonzero()[:, 0]
