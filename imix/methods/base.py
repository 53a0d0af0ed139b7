"""What all methods share: settings, heads, the key encoder, and the protocol of a method.

A method is a module. Called with a batch's two views it returns the loss as a function of the
virtual label (`imix.objectives`) and leaves its own state, key encoder and queue, as the next step
needs it. It never knows whether the first view is mixed. ``method.encoder`` is what gets evaluated.
"""

import copy
from typing import Annotated, Literal

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from imix.objectives import LabelLoss
from imix.schema import Alpha, Count, Epochs, Fraction, Head, Momentum, Rate, Strict, Within, rising
from imix.sending import send

Augmentation = Literal["augmented", "clean"]
Mix = Literal["none", "imix", "icutmix"]
# values of the settings that only mixing uses, in cells that do not mix
NOT_MIXED = {"shared_lam": False, "mix_inputs": "first", "mix_depth": "input", "mix_labels": True}


class Settings(Strict):
    """Everything that one training depends on besides its data and seed.

    ``imix.settings.merging`` replaces the types of ``encoder`` and ``views`` by those of the data
    set's domain.
    """

    augmentation: Augmentation  # clean: both views are the clean rows
    mix: Mix
    encoder: Strict
    views: Strict
    epochs: Epochs
    batch_size: Annotated[int, Within(2, 1_000_000)]
    # blocks of the batch that stand for processors: partners, BatchNorm, contrast set stay inside
    groups: Annotated[int, Within(1, 1_000)]
    learning_rate: Rate  # per 256 items of batch
    momentum: Momentum
    weight_decay: Fraction
    warmup_epochs: Annotated[int, Within(0, 1_000_000)]
    schedule: Literal["cosine", "step"]
    milestones: list[Epochs]  # epochs at which the step schedule multiplies the rate by 0.1; [] for cosine
    embedding: Annotated[int, Within(1, 65_536)]
    projection: Head
    precision: Literal["float32", "tf32", "bfloat16"]
    compile: bool  # true: torch.compile the encoders, at the cost of a warm-up; it rounds otherwise
    inputmix: Annotated[int, Within(0, 100)]  # further inputs mixed into each, labels unchanged; 0 = off
    knn_every: Count  # epochs between two kNN accuracies on the validation rows
    fraction: Annotated[float, Within(0.0001, 1.0)]  # of the training rows, classes in proportion
    shared_lam: bool  # true: one lam per batch; false, as published: one per item
    mix_inputs: Literal["first", "both", "neither"]  # the paper mixes the first view; the others are controls
    mix_depth: Literal["input", "hidden"]  # hidden: before a block of the encoder, drawn anew for every batch
    mix_labels: bool  # false: inputs mixed, labels not; a control
    symmetric: bool  # the loss averaged over both directions, each view the anchor once
    alpha: Alpha | None = None  # of Beta(alpha, alpha); of cells that mix

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        if self.batch_size % self.groups or self.batch_size // self.groups < 2:
            raise ValueError(
                f"groups {self.groups} must divide batch_size {self.batch_size} into blocks of two or more"
            )
        if self.mix_inputs == "neither" and not self.mix_labels:
            raise ValueError("mix_inputs is 'neither' and mix_labels false: that is mix 'none'")
        if self.mix_inputs == "both" and self.mix == "icutmix":
            raise ValueError("mix_inputs must not be 'both' with CutMix: its box is drawn for one view")
        if self.mix_depth == "hidden" and (self.mix_inputs != "first" or not self.mix_labels or self.mix == "icutmix"):
            raise ValueError("mix_depth 'hidden' goes with mix_inputs 'first' and mix_labels true, and not with CutMix")
        if self.mix_depth == "hidden" and self.compile:
            raise ValueError("compile must be false with mix_depth 'hidden': every step would compile anew")
        rising("milestones", self.milestones, self.epochs)
        if (self.schedule == "step") != bool(self.milestones):
            raise ValueError(f"milestones {self.milestones} go with schedule 'step', and only with it")
        if self.warmup_epochs >= self.epochs and self.warmup_epochs > 0:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} must be below epochs {self.epochs}")
        if self.mix != "none" and self.alpha is None:
            raise ValueError("alpha is missing; must be a number from 0.01 to 1000")
        return self


def head(kind: str, inputs: int, hidden: int, outputs: int) -> nn.Module:
    """Make a projection or prediction head, (N, inputs) -> (N, outputs).

    ``linear``, ``mlp`` = Linear-ReLU-Linear, ``mlpbn1`` = Linear-BN-ReLU-Linear, ``mlpbn`` = that
    and a BN.
    """
    if kind == "linear":
        return nn.Linear(inputs, outputs)
    norm = [] if kind == "mlp" else [nn.BatchNorm1d(hidden)]
    last = [nn.BatchNorm1d(outputs)] if kind == "mlpbn" else []
    return nn.Sequential(nn.Linear(inputs, hidden), *norm, nn.ReLU(), nn.Linear(hidden, outputs), *last)


def per_group(network: nn.Module, inputs: Tensor, groups: int) -> Tensor:
    """Pass each of ``groups`` equal blocks of a batch by itself, (N, ...) -> (N, D).

    BatchNorm then sees one block, as on separate processors.
    """
    return network(inputs) if groups == 1 else torch.cat([network(block) for block in inputs.chunk(groups)])


class KeyEncoder(nn.Module):
    """An exponential moving average of a network that yields keys without gradient.

    Averages the parameters only; BatchNorm statistics are its own.
    """

    def __init__(self, network: nn.Module, momentum: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.average = get_ema_multi_avg_fn(momentum)

    def follow(self, network: nn.Module) -> None:
        """Move every parameter by 1 - momentum of the way to ``network``'s."""
        # torch's signature also takes the number of averages so far, which an EMA does not use
        self.average(list(self.network.parameters()), list(network.parameters()), 0)

    @torch.no_grad()
    def forward(self, inputs: Tensor, groups: int, shuffle: torch.Generator) -> Tensor:
        """Return keys (N, D).

        ``shuffle`` assigns items to the groups' BatchNorms at random; keys keep their order.
        """
        if groups == 1:  # one BatchNorm does not see the order
            return self.network(inputs)
        order = send(torch.randperm(len(inputs), generator=shuffle), inputs.device)
        return per_group(self.network, inputs[order], groups)[order.argsort()]


class Method(nn.Module):
    """An encoder with a projection head, trained on batches in ``settings.groups`` blocks.

    Args:
        encoder: (N, ...) -> (N, encoder.features). settings: of the method's own class. classes: of
            the data set; supervised methods project to them.
    """

    # True: `forward` takes class labels (N,) as ``keys``, and validation rows are not trained on
    supervised = False

    def __init__(self, encoder: nn.Module, settings: Settings, classes: int) -> None:
        super().__init__()
        self.encoder, self.settings, self.groups = encoder, settings, settings.groups
        width = encoder.features
        self.projection = head(settings.projection, width, width, classes if self.supervised else settings.embedding)
        self.keys: KeyEncoder | None = None

    def network(self) -> nn.Module:
        """Return the encoder with its projection head."""
        return nn.Sequential(self.encoder, self.projection)

    def follow(self) -> None:
        """Start a step: move the key encoder, if any, before keys are computed.

        `imix.pretraining` calls it once a step. A method without a key encoder has nothing to do.
        """
        if self.keys is not None:
            self.keys.follow(self.network())

    def forward(self, anchors: Tensor, keys: Tensor, generator: torch.Generator) -> LabelLoss:
        """Return the loss of a batch as a function of the virtual label.

        Args:
            anchors: the first views (N, ...), mixed or not. keys: the second views (N, ...), which
                the method turns into keys; of a supervised method the class labels (N,).
            generator: on the host, for what the method draws itself, such as a shuffle.
        """
        raise NotImplementedError
