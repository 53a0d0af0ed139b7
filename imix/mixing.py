"""i-Mix: mix the inputs of a batch, and return every item's partner and weight for the loss.

Every item of a batch is its own class ("virtual label"): item i has label i. An operator returns
the mixed inputs together with ``partner`` and ``lam``, which describe the mixed labels too:

    x'_i = lam_i x_i + (1 - lam_i) x_partner(i)        v'_i = lam_i v_i + (1 - lam_i) v_partner(i)

Every loss used here is linear in the label, so the labels v' are never built: `mixed_loss` weights
the loss under the item's own label and the loss under its partner's.

Random numbers are drawn on the host: one seed gives the same partners and the same ``lam`` on every
device. Without a generator of your own, ``torch.compile(fullgraph=True)`` compiles every operator
(PyTorch cannot pass a generator into a graph).
"""

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from imix.sending import send

# Below the first, nearly every weight rounds to 0 or 1 in float32 and nothing is mixed.
ALPHA_RANGE = (0.01, 1000.0)
HOST = torch.device("cpu")  # named, since torch.set_default_device may have set another
TRIES = 10  # proposals per Gamma variable; each is accepted with a probability of at least 0.95


class Mixture(NamedTuple):
    """Mixed ``inputs`` (N, ...), ``partner`` (N,) int64, ``lam`` (N,) float32 in [0.5, 1]."""

    inputs: Tensor
    partner: Tensor
    lam: Tensor


def _check_alpha(alpha: float) -> None:
    low, high = ALPHA_RANGE
    if not isinstance(alpha, Real) or isinstance(alpha, bool):
        raise TypeError(f"alpha is of type {type(alpha).__name__}; must be a number from {low:g} to {high:g}")
    if not low <= alpha <= high:  # NaN fails every comparison
        raise ValueError(f"alpha = {alpha}: must be a number from {low:g} to {high:g}")


def _check_count(name: str, value: int, least: int = 1) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} is of type {type(value).__name__}; must be a whole number")
    if value < least:
        raise ValueError(f"{name} = {value}: must be at least {least}")


def _check_floating(inputs: Tensor) -> None:
    if not inputs.is_floating_point():
        raise TypeError(f"inputs are {inputs.dtype}; must be floating-point, since integers cannot hold weighted sums")


def _uniform(*shape: int, generator: torch.Generator | None, dtype: torch.dtype | None = None) -> Tensor:
    """Draw U(0, 1) on the host; torch.rand(generator=...) does not compile for changing sizes."""
    return torch.empty(*shape, dtype=dtype, device=HOST).uniform_(generator=generator)


def beta(alpha: float, size: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw weights from Beta(alpha, alpha).

    Transforms two uniform numbers into Student's t with 2 alpha degrees of freedom (Bailey, 1994),
    and that into Beta. Exact and without rejection: the draw compiles, and it takes the same
    numbers from the generator for every alpha.

    Args:
        alpha: 0.01 to 1000; 1 is uniform, larger concentrates at a half.
        size: how many, at least 1.
        generator: a host (CPU) generator; the global one if None.

    Returns:
        (size,) float32 in [0, 1].

    Raises:
        TypeError, ValueError: an argument of the wrong type or outside its range.

    Example:
        >>> bool((beta(1.0, 1000, torch.Generator().manual_seed(0)).mean() - 0.5).abs() < 0.05)
        True
    """
    _check_alpha(alpha)
    _check_count("size", size)
    radius, angle = _uniform(2, size, generator=generator, dtype=torch.float64).unbind()
    tail = radius.pow(1 / alpha)
    cosine = torch.cos(2 * math.pi * angle)
    spread = tail + cosine.square() * (1 - tail)
    # the smaller of the weight and its complement, without the cancellation of (1 - |t|) / 2
    small = tail / spread / (2 * (1 + cosine.abs() * ((1 - tail) / spread).sqrt()))
    return torch.where(cosine < 0, small, 1 - small).float()


def dirichlet(alpha: float, size: int, parts: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw weights from the symmetric Dirichlet distribution: normalised Gamma(alpha) variables.

    Gamma by Marsaglia and Tsang (2000), with a fixed number of proposals instead of a loop, so that
    the draw compiles. In logarithms, since Gamma(0.01) reaches below what float64 can hold.

    Args:
        alpha: 0.01 to 1000, the parameter of every part.
        size, parts: how many draws, and parts of each; at least 1.
        generator: a host (CPU) generator; the global one if None.

    Returns:
        (size, parts) float32; every row sums to 1.

    Raises:
        TypeError, ValueError: an argument of the wrong type or outside its range.

    Example:
        >>> dirichlet(1.0, size=4, parts=3).sum(1).allclose(torch.ones(4))
        True
    """
    _check_alpha(alpha)
    _check_count("size", size)
    _check_count("parts", parts)
    normal = torch.empty(TRIES, size, parts, dtype=torch.float64, device=HOST).normal_(generator=generator)
    # in (0, 1]: a logarithm follows
    uniform = 1 - _uniform(TRIES + 1, size, parts, generator=generator, dtype=torch.float64)
    d = alpha + 2 / 3  # of Gamma(alpha + 1); the factor U^(1 / alpha) makes it Gamma(alpha)
    # NaN where the cube is negative, which is then not accepted
    log_cube = 3 * (1 + normal / (9 * d) ** 0.5).log()
    accepted = uniform[:-1].log() < normal.square() / 2 + d * (1 - log_cube.exp() + log_cube)
    first = accepted.int().argmax(0, keepdim=True)
    log_gamma = log_cube.gather(0, first)[0] + uniform[-1].log() / alpha
    return log_gamma.softmax(1).float()  # type: ignore[no-any-return]


def random_partners(size: int, groups: int = 1, generator: torch.Generator | None = None) -> Tensor:
    """Permute 0..size-1 inside each of ``groups`` equal blocks.

    An item may be its own partner. Each block corresponds to one processor of a multi-GPU run,
    across which the published code never mixes.

    Returns:
        (size,) int64, on the host.

    Raises:
        TypeError, ValueError: an empty batch, fewer than one group, or a batch that does not divide
            into groups.

    Example:
        >>> random_partners(6, groups=2)[:3].sort().values
        tensor([0, 1, 2])
    """
    _check_count("groups", groups)
    if size < 1:
        raise ValueError("the batch is empty; must have at least one item")
    if size % groups:
        raise ValueError(f"a batch of {size} does not divide into {groups} groups")
    order = _uniform(groups, size // groups, generator=generator).argsort(1)
    return order.add_(torch.arange(0, size, size // groups, device=HOST)[:, None]).flatten()


def mixup(
    inputs: Tensor,
    alpha: float = 1.0,
    *,
    groups: int = 1,
    shared: bool = False,
    generator: torch.Generator | None = None,
) -> Mixture:
    """Mix every item with a random partner of the batch (i-Mix).

    ``lam`` ~ Beta(alpha, alpha), one per item, folded to at least a half so that an item remains
    its own main part.

    Args:
        inputs: (N, ...) floating-point batch, N at least 1; not changed.
        alpha: 0.01 to 1000; 1 is uniform, larger mixes more evenly.
        groups: equal blocks of the batch inside which partners are drawn.
        shared: one ``lam`` for the whole batch, as MixUp was first published.
        generator: a host (CPU) generator; the global one if None.

    Raises:
        TypeError: integer inputs, or another argument of the wrong type.
        ValueError: an alpha outside its range, an empty batch, or one that does not divide into
            ``groups``.

    Example:
        >>> view = torch.randn(8, 3, 32, 32)
        >>> mixed, partner, lam = mixup(view, alpha=1.0)
        >>> mixed.shape == view.shape and bool((lam >= 0.5).all())
        True
    """
    _check_floating(inputs)
    size = len(inputs)
    partner = send(random_partners(size, groups, generator), inputs.device)
    lam = beta(alpha, 1, generator).expand(size) if shared else beta(alpha, size, generator)
    lam = send(torch.maximum(lam, 1 - lam), inputs.device)
    return Mixture(blend(inputs, inputs[partner], lam), partner, lam)


def mixes_hidden(layer: nn.Module, mixture: Mixture, groups: int = 1) -> RemovableHandle:
    """Make a layer mix its inputs like ``mixture``, until the handle is removed (Manifold Mixup).

    Each call of the layer takes the next of ``groups`` equal blocks of the batch. Rows after the
    block's, such as the keys of N-pair, are not mixed.

    Raises:
        TypeError, ValueError: fewer than one group, or a batch that does not divide into groups.
        RuntimeError: on a call of the layer after the last block.

    Example:
        >>> network = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
        >>> x = torch.randn(8, 5)
        >>> handle = mixes_hidden(network[2], mixup(x))
        >>> features = network(x)  # of mixed hidden features
        >>> handle.remove()
    """
    _check_count("groups", groups)
    if len(mixture.partner) % groups:
        raise ValueError(f"a batch of {len(mixture.partner)} does not divide into {groups} groups")
    blocks = zip(mixture.partner.chunk(groups), mixture.lam.chunk(groups), strict=True)

    def mix(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        partner, lam = next(blocks, (None, None))
        if partner is None or lam is None:
            raise RuntimeError(f"the layer was called more often than there are groups of the batch, {groups}")
        own, rest = inputs[0][: len(lam)], inputs[0][len(lam) :]
        return (torch.cat([blend(own, own[partner % len(lam)], lam), rest]),)

    return layer.register_forward_pre_hook(mix)


def cutmix(images: Tensor, alpha: float = 1.0, *, groups: int = 1, generator: torch.Generator | None = None) -> Mixture:
    """Paste one box, at the same place, from each image's partner (i-CutMix).

    The box has sides sqrt(1 - lam) of the image's, a uniform centre, and is clipped; the ``lam``
    returned is the share of the image outside the box. One ``lam``, folded before the box is drawn,
    and one box for the batch.

    Args:
        images: (N, C, H, W) of any dtype, since pasting is exact; not changed.
        alpha, groups, generator: as in `mixup`.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: images that are not 4-D or have no pixels, and as in `mixup`.

    Example:
        >>> mixed, partner, lam = cutmix(torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8))
        >>> mixed.dtype, bool((lam == lam[0]).all())
        (torch.uint8, True)
    """
    if images.dim() != 4 or not images.shape[2] * images.shape[3]:
        raise ValueError(f"images are {tuple(images.shape)}; must be (N, C, H, W), with pixels")
    size, _, height, width = images.shape
    partner = send(random_partners(size, groups, generator), images.device)
    keep = beta(alpha, 1, generator).double()
    side = (1 - torch.maximum(keep, 1 - keep)).sqrt()
    centre = _uniform(2, 1, generator=generator)
    # tensors throughout: a Python number of a draw would end torch.compile's graph
    rows, columns = (
        _in_segment(length, (place * length).long(), (side * length).long() // 2)
        for length, place in zip((height, width), centre, strict=True)
    )
    inside = rows[:, None] & columns
    lam = send(1 - inside.sum() / (height * width), images.device).expand(size)
    return Mixture(torch.where(send(inside, images.device), images[partner], images), partner, lam)


def _in_segment(length: int, centre: Tensor, half: Tensor) -> Tensor:
    """Return (length,) bool: which of 0..length-1 are in [centre - half, centre + half)."""
    place = torch.arange(length, device=HOST)
    return (place >= centre - half) & (place < centre + half)


def inputmix(
    inputs: Tensor, others: int, alpha: float = 1.0, *, groups: int = 1, generator: torch.Generator | None = None
) -> Tensor:
    """Mix ``others`` further items into every input; labels do not change (InputMix).

    For data with little augmentation. One other: Beta(alpha, alpha), folded to at least a half.
    More: Dirichlet weights over others + 1, halved, plus a half for the own input.

    Args:
        inputs: (N, ...) floating-point batch, N at least 1; not changed.
        others: at least 1.
        alpha, groups, generator: as in `mixup`.

    Returns:
        A batch of the shape and dtype of ``inputs``.

    Raises:
        TypeError, ValueError: as in `mixup`; also fewer than one other.

    Example:
        >>> inputmix(torch.randn(8, 5), others=2).shape
        torch.Size([8, 5])
    """
    _check_count("others", others)
    if others == 1:
        return mixup(inputs, alpha, groups=groups, generator=generator).inputs
    _check_floating(inputs)
    size = len(inputs)
    partners = [send(random_partners(size, groups, generator), inputs.device) for _ in range(others)]
    weights = dirichlet(alpha, size, others + 1, generator) / 2
    weights[:, 0] += 0.5
    weights = send(weights.to(inputs.dtype), inputs.device).view(size, others + 1, *[1] * (inputs.dim() - 1))
    mixed = weights[:, 0] * inputs
    for k, partner in enumerate(partners, 1):
        mixed += weights[:, k] * inputs[partner]
    return mixed


def blend(own: Tensor, other: Tensor, lam: Tensor) -> Tensor:
    """Return ``lam * own + (1 - lam) * other``: (N, ...), (N, ...), (N,) -> (N, ...).

    Example:
        >>> blend(torch.ones(2, 1), torch.zeros(2, 1), torch.tensor([0.5, 0.75])).flatten()
        tensor([0.5000, 0.7500])
    """
    return other.lerp(own, lam.to(own.dtype).view(-1, *[1] * (own.dim() - 1)))


def mixed_loss(loss: Callable[[Tensor], Tensor], partner: Tensor, lam: Tensor) -> Tensor:
    """Return the mean of lam * loss(own label) + (1 - lam) * loss(partner's label).

    Args:
        loss: maps labels (N,) int64 to per-item losses (N,), as the functions of `imix.objectives`
            return.
        partner, lam: (N,) each, as an operator returned them.

    Returns:
        A scalar.

    Raises:
        ValueError: a loss that returns anything but one number per item; no items; partner and lam
            of different shapes.

    Example:
        >>> logits = torch.randn(4, 4)
        >>> ce = lambda label: torch.nn.functional.cross_entropy(logits, label, reduction="none")
        >>> own = torch.arange(4)
        >>> bool(mixed_loss(ce, own, torch.ones(4)) == ce(own).mean())
        True
    """
    if lam.dim() != 1 or lam.shape != partner.shape or not len(lam):
        shapes = f"partner {tuple(partner.shape)} and lam {tuple(lam.shape)}"
        raise ValueError(f"{shapes}: must both be (N,), with N at least 1")
    own, others = loss(torch.arange(len(lam), device=lam.device)), loss(partner)
    for values in (own, others):
        if values.shape != lam.shape:
            raise ValueError(
                f"loss returned shape {tuple(values.shape)} for {len(lam)} labels; must return one number per "
                f'item, ({len(lam)},): use reduction="none" and no trailing dimension'
            )
    return (lam * own + (1 - lam) * others).mean()
