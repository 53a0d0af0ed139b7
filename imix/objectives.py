"""The losses as functions of embeddings.

Each function takes embeddings and returns *the loss as a function of the virtual label*: a callable
that maps labels (N,) int64, positions in the batch, to per-item losses (N,). Plain training
evaluates it at the own label; i-Mix at the own and the partner's (`imix.mixing.mixed_loss`). Keys
of MoCo and BYOL must not require a gradient. Losses are computed in float32, whatever the encoder's
precision.
"""

from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

LabelLoss = Callable[[Tensor], Tensor]
CONTRASTS = ("own", "batch")


def _check_embeddings(**embeddings: Tensor) -> None:
    """Raise ValueError unless all embeddings are (N, D) alike, with N at least 1."""
    shapes = {name: tuple(z.shape) for name, z in embeddings.items()}
    first = next(iter(shapes.values()))
    if len(first) != 2 or not first[0] or len(set(shapes.values())) > 1:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"{found}: must all be (N, D) of one shape, with N at least 1")


def _check_constant(keys: Tensor) -> None:
    if keys.requires_grad:
        raise ValueError("keys require a gradient; they must be constants: compute them under torch.no_grad()")


def _check_temperature(temperature: float) -> None:
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature = {temperature}: must be positive and finite")


def _logits(anchors: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Return float32 products over the temperature, (..., N, D), (..., M, D) -> (..., N, M)."""
    anchors = anchors / temperature  # smaller than the matrix of products
    device = anchors.device.type
    # the meta device, on which costs are counted, has no autocast
    with torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext():
        return anchors @ keys.mT


def n_pair(anchors: Tensor, keys: Tensor, temperature: float, groups: int = 1) -> LabelLoss:
    """N-pair: cross-entropy over the keys of the batch.

    The logits are cosine / temperature.

    Args:
        anchors, keys: (N, D), of any length; normalised here.
        temperature: positive.
        groups: equal blocks of the batch; each item is contrasted with the keys of its own block.

    Raises:
        ValueError: embeddings of different shapes, an empty batch, one that does not divide into
            groups, or a temperature that is not positive.

    Example:
        >>> from imix.mixing import mixed_loss, mixup
        >>> encoder, view1, view2 = torch.nn.Linear(5, 4), torch.randn(8, 5), torch.randn(8, 5)
        >>> mixed, partner, lam = mixup(view1)
        >>> loss = mixed_loss(n_pair(encoder(mixed), encoder(view2), temperature=0.2), partner, lam)
        >>> loss.backward()
    """
    _check_embeddings(anchors=anchors, keys=keys)
    _check_temperature(temperature)
    if groups < 1 or len(anchors) % groups:
        raise ValueError(f"groups = {groups}: must be at least 1 and divide the batch of {len(anchors)}")
    anchors, keys = (F.normalize(z.float(), dim=1).view(groups, -1, z.shape[1]) for z in (anchors, keys))
    # (N, N / groups)
    log_probability = F.log_softmax(_logits(anchors, keys, temperature), dim=2).flatten(0, 1)
    size = log_probability.shape[1]
    return lambda label: -_at(log_probability, label % size)


def moco(anchors: Tensor, keys: Tensor, queue: Tensor, temperature: float, contrast: str) -> LabelLoss:
    """MoCo: cross-entropy against a queue of older keys (MoCo v2).

    Args:
        anchors, keys: (N, D), of any length; normalised here. Keys are constants.
        queue: (K, D), normalised, K at least 1.
        temperature: positive.
        contrast: ``own``: the label's key and the queue, 1 + K logits, as in plain MoCo; ``batch``:
            all keys of the batch and the queue, N + K logits, as in the paper's i-Mix.

    Raises:
        ValueError: another contrast, keys that require a gradient, embeddings of different shapes,
            an empty batch or queue, or a temperature that is not positive.

    Example:
        >>> z, keys, queue = torch.randn(8, 4), torch.randn(8, 4), F.normalize(torch.randn(32, 4), dim=1)
        >>> moco(z, keys, queue, 0.2, "own")(torch.arange(8)).shape
        torch.Size([8])
    """
    if contrast not in CONTRASTS:
        raise ValueError(f"contrast = {contrast!r}: must be one of {', '.join(CONTRASTS)}")
    _check_constant(keys)
    _check_embeddings(anchors=anchors, keys=keys)
    _check_temperature(temperature)
    if queue.dim() != 2 or not len(queue) or queue.shape[1] != keys.shape[1]:
        raise ValueError(f"queue {tuple(queue.shape)}: must be (K, {keys.shape[1]}), with K at least 1")
    anchors, keys = F.normalize(anchors.float(), dim=1), F.normalize(keys.float(), dim=1)
    to_keys, to_queue = (_logits(anchors, z, temperature) for z in (keys, queue.float()))
    older = _logsumexp(to_queue)
    every = torch.logaddexp(_logsumexp(to_keys), older) if contrast == "batch" else None

    def loss(label: Tensor) -> Tensor:
        positive = _at(to_keys, label)
        return (torch.logaddexp(positive, older) if every is None else every) - positive

    return loss


def _at(values: Tensor, label: Tensor) -> Tensor:
    """Return each row's value at its label, (N, M), (N,) -> (N,).

    Torch lists nll_loss as not deterministic on CUDA.
    """
    return values.gather(1, label[:, None])[:, 0]


def _logsumexp(logits: Tensor) -> Tensor:
    """Return log of the sum of exp, (N, M) -> (N,); torch's computes exp twice for the gradient."""
    greatest = logits.detach().amax(1)
    return (logits - greatest[:, None]).exp().sum(1).log() + greatest


def byol(predictions: Tensor, keys: Tensor) -> LabelLoss:
    """BYOL: 2 - 2 cos(prediction, key of the label).

    Args:
        predictions, keys: (N, D), of any length; normalised here. Keys are constants.

    Raises:
        ValueError: keys that require a gradient, embeddings of different shapes, or an empty batch.

    Example:
        >>> keys = torch.randn(8, 4)
        >>> byol(keys, keys)(torch.arange(8)).abs().max() < 1e-5
        tensor(True)
    """
    _check_constant(keys)
    _check_embeddings(predictions=predictions, keys=keys)
    predictions, keys = F.normalize(predictions.float(), dim=1), F.normalize(keys.float(), dim=1)
    return lambda label: 2 - 2 * (predictions * keys[label]).sum(1)


def supervised(logits: Tensor, labels: Tensor) -> LabelLoss:
    """Cross-entropy with class labels: virtual label i is the class ``labels[i]``.

    Args:
        logits: (N, C) class logits. labels: (N,) int64 classes.

    Raises:
        ValueError: logits and labels that do not fit, or an empty batch.

    Example:
        >>> logits, labels = torch.randn(8, 3), torch.arange(8) % 3
        >>> supervised(logits, labels)(torch.arange(8)).mean().allclose(F.cross_entropy(logits, labels))
        True
    """
    if logits.dim() != 2 or not len(logits) or labels.shape != logits.shape[:1]:
        shapes = f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)}"
        raise ValueError(f"{shapes}: must be (N, C) and (N,), with N at least 1")
    log_probability = F.log_softmax(logits.float(), dim=1)
    return lambda label: -_at(log_probability, labels[label])
