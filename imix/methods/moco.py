"""MoCo v2: keys from a moving average, contrasted with a queue of past keys."""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn

from imix import objectives
from imix.methods import base
from imix.objectives import LabelLoss
from imix.schema import Momentum, Positive, Within

TITLE = "MoCo v2"


class Settings(base.Settings):
    """What MoCo adds."""

    temperature: Positive
    ema: Momentum
    queue: Annotated[int, Within(2, 10_000_000)]
    contrast: Literal["own", "batch"]  # own: 1 + K logits; batch: N + K

    @model_validator(mode="after")
    def _possible(self) -> "Settings":
        if self.symmetric:
            raise ValueError(
                "symmetric must be false: the second direction would find the first direction's keys in the queue, "
                "as negatives"
            )
        if self.queue < self.batch_size:
            raise ValueError(
                f"queue {self.queue} must be at least batch_size {self.batch_size}: the keys of one step must fit"
            )
        return self


class Method(base.Method):
    """The queue is a ring; a step's keys enter it after the step's loss was computed."""

    settings: Settings
    queue: Tensor
    pointer: Tensor

    def __init__(self, encoder: nn.Module, settings: Settings, classes: int) -> None:
        super().__init__(encoder, settings, classes)
        self.keys = base.KeyEncoder(self.network(), settings.ema)
        self.register_buffer("queue", F.normalize(torch.randn(settings.queue, settings.embedding), dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    def forward(self, anchors: Tensor, keys: Tensor, generator: torch.Generator) -> LabelLoss:
        """Return the loss of two views (N, ...) as a function of the virtual label."""
        z_keys = F.normalize(self.keys(keys, self.groups, generator).float(), dim=1)
        z_anchors = base.per_group(self.network(), anchors, self.groups)
        # a copy: the logits' backward pass still needs the queue that they were computed from
        loss = objectives.moco(z_anchors, z_keys, self.queue.clone(), self.settings.temperature, self.settings.contrast)
        self.enqueue(z_keys)
        return loss

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Overwrite the oldest keys with these, (N, D), around the ring."""
        places = (self.pointer + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[places] = keys
        self.pointer.copy_((self.pointer + len(keys)) % len(self.queue))
