"""i-Mix in a page: mix the inputs of a batch, and remember with whom and how much.

Every item of a batch is its own class ("virtual label"): item i has label i. An operator returns the
mixed inputs together with ``partner`` and ``lam``, which say the same of the labels:

    x'_i = lam_i x_i + (1 - lam_i) x_partner(i)        v'_i = lam_i v_i + (1 - lam_i) v_partner(i)

All losses used here are linear in the label, so that labels are never built: `mixed_loss` weighs the
loss under the item's own label and under its partner's.

Randomness is drawn on the host from an explicit generator: one seed gives the same partners and the same
``lam`` on every device.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class Mixture(NamedTuple):
    """A mixed batch: ``inputs`` (N, ...), ``partner`` (N,) int64, ``lam`` (N,) float32 in [0, 1]."""

    inputs: Tensor
    partner: Tensor
    lam: Tensor


def beta(alpha: float, size: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw ``size`` weights from Beta(alpha, alpha): the ratio of two Gamma(alpha) variables, (size,)."""
    return _dirichlet(alpha, size, 2, generator)[:, 0]


def _dirichlet(alpha: float, size: int, parts: int, generator: torch.Generator | None) -> Tensor:
    """Draw (size, parts) weights from the symmetric Dirichlet; float64, since Gamma(0.1) reaches below 1e-38."""
    shape = torch.full((size, parts), alpha, dtype=torch.float64)
    # torch.distributions takes no generator; this is the kernel under it
    gamma = torch._standard_gamma(shape, generator=generator).clamp_min(1e-300)
    return (gamma / gamma.sum(1, keepdim=True)).float()


def random_partners(size: int, groups: int = 1, generator: torch.Generator | None = None) -> Tensor:
    """Permute 0..size-1 inside each of ``groups`` equal blocks, (size,); an item may meet itself (section 1).

    Blocks stand for the processors of a multi-GPU run, across which the published code never mixes.

    Raises:
        ValueError: a batch that does not divide into the blocks.
    """
    if size % groups:
        raise ValueError(f"a batch of {size} does not divide into {groups} groups")
    return torch.rand(groups, size // groups, generator=generator).argsort(1).add_(torch.arange(0, size, size // groups)[:, None]).flatten()


def mixup(
    inputs: Tensor, alpha: float = 1.0, *, groups: int = 1, shared: bool = False, generator: torch.Generator | None = None
) -> Mixture:
    """Mix every item with a random partner of the batch (i-Mix).

    ``lam`` ~ Beta(alpha, alpha), one per item, folded to at least a half so that an item stays its own main part.

    Args:
        inputs: (N, ...) floating-point batch; not changed.
        alpha: positive; 1 is uniform, larger mixes more evenly.
        groups: equal blocks of the batch inside which partners are drawn.
        shared: one ``lam`` for the whole batch, as MixUp was first published.
        generator: a host (CPU) generator; the global one if None.

    Raises:
        ValueError: a batch that does not divide into ``groups``, as from the other operators.

    Example:
        >>> view = torch.randn(8, 3, 32, 32)
        >>> mixed, partner, lam = mixup(view, alpha=1.0)
        >>> mixed.shape == view.shape and bool((lam >= 0.5).all())
        True
    """
    size = len(inputs)
    lam = beta(alpha, 1, generator).expand(size) if shared else beta(alpha, size, generator)
    lam = torch.maximum(lam, 1 - lam).to(inputs.device)
    partner = random_partners(size, groups, generator).to(inputs.device)
    return Mixture(blend(inputs, inputs[partner], lam), partner, lam)


def mixes_hidden(layer: nn.Module, mixture: Mixture, groups: int = 1) -> RemovableHandle:
    """Make a layer mix what it is given, as ``mixture`` says, until the handle is removed (Manifold Mixup's way of mixing).

    Each call of the layer takes the next of ``groups`` equal blocks of the batch; rows that follow the block's, such as the
    keys of N-pair, stay as they are.
    """
    blocks = zip(mixture.partner.chunk(groups), mixture.lam.chunk(groups), strict=True)

    def mix(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        partner, lam = next(blocks)
        own, rest = inputs[0][: len(lam)], inputs[0][len(lam) :]
        return (torch.cat([blend(own, own[partner % len(lam)], lam), rest]),)

    return layer.register_forward_pre_hook(mix)


def cutmix(images: Tensor, alpha: float = 1.0, *, groups: int = 1, generator: torch.Generator | None = None) -> Mixture:
    """Paste one box, the same place in every image, from each image's partner (i-CutMix, section 1).

    The box has sides sqrt(1 - lam) of the image's, a uniform centre, and is clipped; ``lam`` is then the share
    of the image that stayed. One ``lam``, folded before the box is drawn, and one box for the batch.

    Args:
        images: (N, C, H, W); not changed. The other arguments are `mixup`'s.
    """
    size, _, height, width = images.shape
    keep = float(beta(alpha, 1, generator))
    keep = max(keep, 1 - keep)
    centre_y, centre_x = (torch.rand(2, generator=generator) * torch.tensor([height, width])).long().tolist()
    half_y, half_x = int(height * (1 - keep) ** 0.5) // 2, int(width * (1 - keep) ** 0.5) // 2
    top, bottom = max(centre_y - half_y, 0), min(centre_y + half_y, height)
    left, right = max(centre_x - half_x, 0), min(centre_x + half_x, width)
    partner = random_partners(size, groups, generator).to(images.device)
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
    lam = 1 - (bottom - top) * (right - left) / (height * width)
    return Mixture(mixed, partner, torch.full((size,), lam, device=images.device))


def inputmix(inputs: Tensor, others: int, alpha: float = 1.0, *, groups: int = 1, generator: torch.Generator | None = None) -> Tensor:
    """Mix ``others`` further items into every input; labels stay (InputMix, for data with little augmentation).

    One other: Beta(alpha, alpha), folded to at least a half. More: Dirichlet weights over others + 1, halved,
    plus a half for the own input (section 1). Returns a batch like ``inputs``.
    """
    if others == 1:
        return mixup(inputs, alpha, groups=groups, generator=generator).inputs
    size = len(inputs)
    weights = _dirichlet(alpha, size, others + 1, generator) / 2
    weights[:, 0] += 0.5
    weights = weights.to(inputs.device, inputs.dtype).view(size, others + 1, *[1] * (inputs.dim() - 1))
    mixed = weights[:, 0] * inputs
    for k in range(1, others + 1):
        mixed += weights[:, k] * inputs[random_partners(size, groups, generator).to(inputs.device)]
    return mixed


def blend(own: Tensor, other: Tensor, lam: Tensor) -> Tensor:
    """``lam * own + (1 - lam) * other`` with one ``lam`` per item: (N, ...), (N, ...), (N,) -> (N, ...)."""
    return other.lerp(own, lam.to(own.dtype).view(-1, *[1] * (own.dim() - 1)))


def mixed_loss(loss: Callable[[Tensor], Tensor], partner: Tensor, lam: Tensor) -> Tensor:
    """The one line of i-Mix: lam * loss(own label) + (1 - lam) * loss(partner's label), averaged.

    Args:
        loss: maps labels (N,) int64 to one loss per item (N,), as the objectives of `imix.objectives` do.
        partner, lam: as an operator returned them.

    Example:
        >>> logits = torch.randn(4, 4)
        >>> ce = lambda label: torch.nn.functional.cross_entropy(logits, label, reduction="none")
        >>> own = torch.arange(4)
        >>> bool(mixed_loss(ce, own, torch.ones(4)) == ce(own).mean())
        True
    """
    own = torch.arange(len(lam), device=lam.device)
    return (lam * loss(own) + (1 - lam) * loss(partner)).mean()
