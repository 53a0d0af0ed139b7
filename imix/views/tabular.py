"""Tabular views: standardised numbers, each masked with some probability; flags stay as they are (section 2)."""

import torch
from torch import Tensor

from imix.settings import TabularViews


class Views:
    """Rows (N, columns) float32, the first ``numbers`` columns numeric, the others flags.

    Args:
        settings: the masking probability of either view.
        mean, std: (numbers,) statistics of the training rows.
    """

    def __init__(self, settings: TabularViews, mean: Tensor, std: Tensor, numbers: int) -> None:
        self.masking, self.mean, self.std, self.numbers = settings.masking, mean, std, numbers

    def clean(self, rows: Tensor) -> Tensor:
        """Standardise the numbers, (N, columns)."""
        return torch.cat([(rows[:, : self.numbers] - self.mean) / self.std, rows[:, self.numbers :]], dim=1)

    def __call__(self, rows: Tensor, which: int, generator: torch.Generator) -> Tensor:
        """Standardise, then set each number to zero, its mean, with the view's probability, (N, columns)."""
        keep = torch.rand(len(rows), self.numbers, generator=generator) >= self.masking[which]
        view = self.clean(rows)
        view[:, : self.numbers] *= keep.to(view.device)
        return view
