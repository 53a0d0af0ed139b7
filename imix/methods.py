"""The stateful part of the methods: encoder, heads, key encoder, queue.

A method is a module; called with a batch's two views it returns the loss as a function of the virtual label
(`imix.objectives`) and leaves its own state, key encoder and queue, as the next step needs it. It never knows
whether the first view is mixed. ``method.encoder`` is what gets evaluated.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imix import objectives
from imix.objectives import LabelLoss
from imix.settings import Pretraining


def head(kind: str, inputs: int, hidden: int, outputs: int) -> nn.Module:
    """Make a projection or prediction head, (N, inputs) -> (N, outputs).

    ``linear``, ``mlp`` = Linear-ReLU-Linear, ``mlpbn1`` = Linear-BN-ReLU-Linear, ``mlpbn`` = that and a BN (section 2).
    """
    if kind == "linear":
        return nn.Linear(inputs, outputs)
    norm = [] if kind == "mlp" else [nn.BatchNorm1d(hidden)]
    last = [nn.BatchNorm1d(outputs)] if kind == "mlpbn" else []
    return nn.Sequential(nn.Linear(inputs, hidden), *norm, nn.ReLU(), nn.Linear(hidden, outputs), *last)


def per_group(network: nn.Module, inputs: Tensor, groups: int) -> Tensor:
    """(N, ...) -> (N, D), each of ``groups`` equal blocks of the batch by itself, as separate processors do: BatchNorm sees one block."""
    return network(inputs) if groups == 1 else torch.cat([network(block) for block in inputs.chunk(groups)])


class KeyEncoder(nn.Module):
    """An exponential moving average of a network that yields keys without gradient.

    Averages the parameters only; BatchNorm statistics are its own (section 1).
    """

    def __init__(self, network: nn.Module, momentum: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.momentum = momentum

    @torch.no_grad()
    def follow(self, network: nn.Module) -> None:
        """Move every parameter by 1 - momentum of the way to ``network``'s."""
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), 1 - self.momentum)

    @torch.no_grad()
    def forward(self, inputs: Tensor, groups: int, shuffle: torch.Generator) -> Tensor:
        """Keys (N, D). ``shuffle`` deals the batch out to the groups' BatchNorms at random and undoes it afterwards."""
        if groups == 1:  # one BatchNorm does not see the order
            return self.network(inputs)
        order = torch.randperm(len(inputs), generator=shuffle).to(inputs.device)
        return per_group(self.network, inputs[order], groups)[order.argsort()]


class Method(nn.Module):
    """What all methods share: an encoder, a projection head, the groups of a batch.

    Called with the first views (N, ...), the second views, and a host generator, a method returns its loss as a function
    of the virtual label. ``supervised`` ones are given labels (N,) in place of the second views.

    Args:
        encoder: (N, ...) -> (N, features). settings: of the cell. classes: of the data set; for supervised methods.
    """

    supervised = False

    def __init__(self, encoder: nn.Module, features: int, settings: Pretraining, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = head(settings.projection, features, features, classes if self.supervised else settings.embedding)
        self.groups = settings.groups

    def network(self) -> nn.Sequential:
        """The encoder with its projection head."""
        return nn.Sequential(self.encoder, self.projection)

    def follow(self) -> None:
        """Start a step: move the key encoder, where there is one, towards the network."""


class NPair(Method):
    """N-pair contrastive learning: both views in one pass, so that BatchNorm sees both (section 1)."""

    def __init__(self, encoder: nn.Module, features: int, settings: Pretraining, classes: int) -> None:
        super().__init__(encoder, features, settings, classes)
        self.temperature = settings.temperature

    def forward(self, anchors: Tensor, keys: Tensor, generator: torch.Generator) -> LabelLoss:
        """Two views (N, ...) -> the loss as a function of the label."""
        # blocks of [a group's anchors, the same group's keys]: one pass, one BatchNorm per group
        blocks = [z for pair in zip(anchors.chunk(self.groups), keys.chunk(self.groups), strict=True) for z in pair]
        z = per_group(self.network(), torch.cat(blocks), self.groups)
        z_anchors, z_keys = z.unflatten(0, (self.groups, 2, -1)).unbind(1)
        return objectives.n_pair(z_anchors.flatten(0, 1), z_keys.flatten(0, 1), self.temperature, self.groups)


class Momentum(Method):
    """A method whose keys come from a moving average of its network."""

    def __init__(self, encoder: nn.Module, features: int, settings: Pretraining, classes: int) -> None:
        super().__init__(encoder, features, settings, classes)
        self.keys = KeyEncoder(self.network(), settings.ema)

    def follow(self) -> None:
        """Move the key encoder, once a step and before the keys (section 1)."""
        self.keys.follow(self.network())


class MoCo(Momentum):
    """MoCo v2: keys from a moving average, contrasted with a queue of past keys (section 1)."""

    queue: Tensor
    pointer: Tensor

    def __init__(self, encoder: nn.Module, features: int, settings: Pretraining, classes: int) -> None:
        super().__init__(encoder, features, settings, classes)
        self.register_buffer("queue", F.normalize(torch.randn(settings.queue, settings.embedding), dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self.temperature, self.contrast = settings.temperature, settings.contrast

    def forward(self, anchors: Tensor, keys: Tensor, generator: torch.Generator) -> LabelLoss:
        """Two views (N, ...) -> the loss as a function of the label."""
        z_keys = F.normalize(self.keys(keys, self.groups, generator).float(), dim=1)
        z_anchors = per_group(self.network(), anchors, self.groups)
        # a copy: the logits' backward pass still needs the queue that they were computed from
        loss = objectives.moco(z_anchors, z_keys, self.queue.clone(), self.temperature, self.contrast)
        self.enqueue(z_keys)
        return loss

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Overwrite the oldest keys with these, (N, D), round the ring."""
        places = (self.pointer + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[places] = keys
        self.pointer.copy_((self.pointer + len(keys)) % len(self.queue))


class BYOL(Momentum):
    """BYOL: predict the key of the moving average; not symmetrised (section 1)."""

    def __init__(self, encoder: nn.Module, features: int, settings: Pretraining, classes: int) -> None:
        super().__init__(encoder, features, settings, classes)
        self.predictor = head(settings.predictor, settings.embedding, features, settings.embedding)

    def forward(self, anchors: Tensor, keys: Tensor, generator: torch.Generator) -> LabelLoss:
        """Two views (N, ...) -> the loss as a function of the label."""
        z_keys = self.keys(keys, self.groups, generator)
        predictions = per_group(nn.Sequential(self.network(), self.predictor), anchors, self.groups)
        return objectives.byol(predictions, z_keys)


class Supervised(Method):
    """Training with labels; mixed, it is MixUp as first published. What the others are judged against."""

    supervised = True

    def forward(self, anchors: Tensor, labels: Tensor, generator: torch.Generator) -> LabelLoss:
        """One view (N, ...) and labels (N,) -> the loss as a function of the virtual label, which names a row of the batch."""
        return objectives.supervised(per_group(self.network(), anchors, self.groups), labels)


METHODS: dict[str, type[Method]] = {"npair": NPair, "moco": MoCo, "byol": BYOL, "supervised": Supervised}
