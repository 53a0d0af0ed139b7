"""BYOL: predict the key of a moving average; one direction of the loss by default."""

import torch
from torch import Tensor, nn

from imix import objectives
from imix.methods import base
from imix.objectives import LabelLoss
from imix.schema import Head, Momentum

TITLE = "BYOL"


class Settings(base.Settings):
    """What BYOL adds."""

    ema: Momentum
    predictor: Head


class Method(base.Method):
    """A predictor on the online branch; keys are constants."""

    settings: Settings

    def __init__(self, encoder: nn.Module, settings: Settings, classes: int) -> None:
        super().__init__(encoder, settings, classes)
        self.keys = base.KeyEncoder(self.network(), settings.ema)
        self.predictor = base.head(settings.predictor, settings.embedding, encoder.features, settings.embedding)

    def forward(self, anchors: Tensor, keys: Tensor, generator: torch.Generator) -> LabelLoss:
        """Return the loss of two views (N, ...) as a function of the virtual label."""
        z_keys = self.keys(keys, self.groups, generator)
        online = nn.Sequential(self.network(), self.predictor)
        return objectives.byol(base.per_group(online, anchors, self.groups), z_keys)
