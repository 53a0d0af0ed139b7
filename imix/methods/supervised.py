"""Training with labels: the baseline of contrastive training.

With mixing it is MixUp as first published.
"""

import torch
from pydantic import model_validator
from torch import Tensor

from imix import objectives
from imix.methods import base
from imix.objectives import LabelLoss

TITLE = "supervised"


class Settings(base.Settings):
    """Nothing is added; a linear classifier takes the projection's place."""

    @model_validator(mode="after")
    def _one_view(self) -> "Settings":
        if self.symmetric or self.mix_inputs == "both":
            raise ValueError("symmetric must be false and mix_inputs not 'both': training with labels has one view")
        return self


class Method(base.Method):
    """The second argument of `forward` is the labels (N,) instead of the second views."""

    supervised = True

    def forward(self, anchors: Tensor, keys: Tensor, generator: torch.Generator) -> LabelLoss:
        """Return the loss of views (N, ...) as a function of the virtual label.

        A virtual label is a position in the batch. Its class is the label at that position, of the
        class labels ``keys`` (N,).
        """
        return objectives.supervised(base.per_group(self.network(), anchors, self.groups), keys)
