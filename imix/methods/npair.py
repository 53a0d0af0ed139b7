"""N-pair contrastive learning: the other keys of the batch are the negatives."""

import torch
from torch import Tensor

from imix import objectives
from imix.methods import base
from imix.objectives import LabelLoss
from imix.schema import Positive

TITLE = "N-pair"


class Settings(base.Settings):
    """What N-pair adds."""

    temperature: Positive


class Method(base.Method):
    """Both views in one forward pass, so that BatchNorm sees both."""

    settings: Settings

    def forward(self, anchors: Tensor, keys: Tensor, generator: torch.Generator) -> LabelLoss:
        """Return the loss of two views (N, ...) as a function of the virtual label."""
        # blocks of [a group's anchors, the same group's keys]: one pass, one BatchNorm per group
        pairs = zip(anchors.chunk(self.groups), keys.chunk(self.groups), strict=True)
        z = base.per_group(self.network(), torch.cat([view for pair in pairs for view in pair]), self.groups)
        z_anchors, z_keys = (each.flatten(0, 1) for each in z.unflatten(0, (self.groups, 2, -1)).unbind(1))
        return objectives.n_pair(z_anchors, z_keys, self.settings.temperature, self.groups)
