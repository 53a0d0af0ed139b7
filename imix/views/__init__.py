"""Views: random, batched transforms on the device, tensor in, tensor out. One module per domain.

A domain's class is called with a batch of stored rows, a host generator and which of the two views is wanted (0 or 1),
and returns what an encoder takes; its ``clean`` method returns the same without any randomness. Random parameters are
drawn on the host, one set per item: a seed gives the same views on every device, and choosing rows needs no transfer back.
"""

from typing import Protocol

import torch
from torch import Tensor

from imix.datasets import Dataset
from imix.settings import ImageViews, SpeechViews, TabularViews


class Views(Protocol):
    """What pretraining and evaluation need of a domain."""

    def __call__(self, rows: Tensor, which: int, generator: torch.Generator) -> Tensor:
        """A random view of every row, (N, ...) as stored -> (N, ...) float32."""

    def clean(self, rows: Tensor) -> Tensor:
        """The rows as the encoder sees them in evaluation, in the same form."""

    def padded_crops(self, rows: Tensor, flip: bool, generator: torch.Generator) -> Tensor:
        """The probe's augmentation, in the same form; images only."""


def make_views(settings: ImageViews | SpeechViews | TabularViews, dataset: Dataset) -> Views:
    """Make the views of a data set; imports only the domain that it needs."""
    if isinstance(settings, ImageViews):
        from imix.views.image import Views as ImageDomain

        return ImageDomain(settings, dataset.mean, dataset.std)
    if isinstance(settings, SpeechViews):
        from imix.views.speech import Views as SpeechDomain

        return SpeechDomain(settings, dataset.mean, dataset.std, dataset.background)
    from imix.views.tabular import Views as TabularDomain

    return TabularDomain(settings, dataset.mean, dataset.std, dataset.numbers)


def uniform(size: int | tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """U(low, high) on the host."""
    return torch.rand(size, generator=generator) * (high - low) + low


def chosen(size: int, probability: float, generator: torch.Generator) -> Tensor:
    """Indices on the host of the items that a transform of this probability meets."""
    return (torch.rand(size, generator=generator) < probability).nonzero()[:, 0]
