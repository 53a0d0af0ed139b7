"""The losses as functions of embeddings.

Each takes embeddings and returns *the loss as a function of the virtual label*: a callable from labels (N,)
int64, places in the batch, to one loss per item (N,). Plain training evaluates it at the own label; i-Mix at
the own and the partner's (`imix.mixing.mixed_loss`). MoCo's and BYOL's keys must come without a gradient.
Losses are computed in float32, whatever the encoder's precision.
"""

from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

LabelLoss = Callable[[Tensor], Tensor]


def _logits(anchors: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Products over the temperature, (..., N, D), (..., M, D) -> (..., N, M), in float32 under autocast, too."""
    anchors = anchors / temperature  # which are fewer than the products
    device = anchors.device.type
    # the meta device, on which costs are counted, has no autocast
    with torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext():
        return anchors @ keys.mT


def n_pair(anchors: Tensor, keys: Tensor, temperature: float, groups: int = 1) -> LabelLoss:
    """N-pair: cross-entropy over the keys of the batch, logits cosine / temperature (section 1, N-pair).

    Args:
        anchors, keys: (N, D), of any length; normalised here.
        groups: equal blocks of the batch, each its own contrast set.
    """
    anchors, keys = (F.normalize(z.float(), dim=1).unflatten(0, (groups, -1)) for z in (anchors, keys))
    log_probability = F.log_softmax(_logits(anchors, keys, temperature), dim=2).flatten(0, 1)  # (N, N / groups)
    size = log_probability.shape[1]
    return lambda label: F.nll_loss(log_probability, label % size, reduction="none")


def moco(anchors: Tensor, keys: Tensor, queue: Tensor, temperature: float, contrast: str) -> LabelLoss:
    """MoCo: cross-entropy against a queue of older keys (section 1, MoCo v2).

    Args:
        anchors, keys: (N, D), of any length; normalised here. Keys are constants.
        queue: (K, D), normalised.
        contrast: ``own``: the label's key and the queue, 1 + K logits, as plain MoCo does; ``batch``: all keys
            of the batch and the queue, N + K logits, as the paper's i-Mix does.
    """
    assert not keys.requires_grad, "keys are constants"
    anchors, keys = F.normalize(anchors.float(), dim=1), F.normalize(keys.float(), dim=1)
    to_keys, to_queue = (_logits(anchors, z, temperature) for z in (keys, queue))
    older = _logsumexp(to_queue)
    every = torch.logaddexp(_logsumexp(to_keys), older) if contrast == "batch" else None

    def loss(label: Tensor) -> Tensor:
        positive = to_keys.gather(1, label[:, None])[:, 0]
        return (torch.logaddexp(positive, older) if every is None else every) - positive

    return loss


def _logsumexp(logits: Tensor) -> Tensor:
    """log of the sum of exp, (N, M) -> (N,); unlike torch's, its backward pass takes no exp again."""
    greatest = logits.detach().amax(1)
    return (logits - greatest[:, None]).exp().sum(1).log() + greatest


def byol(predictions: Tensor, keys: Tensor) -> LabelLoss:
    """BYOL: 2 - 2 cos(prediction, key of the label) (section 1, BYOL). Both (N, D), of any length; keys are constants."""
    assert not keys.requires_grad, "keys are constants"
    predictions, keys = F.normalize(predictions.float(), dim=1), F.normalize(keys.float(), dim=1)
    return lambda label: 2 - 2 * (predictions * keys[label]).sum(1)


def supervised(logits: Tensor, labels: Tensor) -> LabelLoss:
    """Cross-entropy of class logits (N, C); an item's virtual label stands for its class in ``labels`` (N,)."""
    log_probability = F.log_softmax(logits.float(), dim=1)
    return lambda label: F.nll_loss(log_probability, labels[label], reduction="none")
