"""Frozen features, and metrics of them that need no training.

kNN accuracy, spread, rank, alignment, uniformity, Fréchet distance.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imix.errors import UserError
from imix.sending import send

SPREAD_ROWS = 20_000  # at most so many rows give spread, rank and Fréchet distance
PAIR_ROWS = 2_000  # the same for uniformity, which compares all pairs of rows
COLLAPSED = 0.05  # below this spread of its features an encoder is called collapsed
BATCH = 500  # rows per forward pass; in evaluation mode, its size changes no metric


@torch.no_grad()
def extract(
    encoder: nn.Module,
    rows: Tensor,
    clean: Callable[[Tensor], Tensor] = lambda rows: rows,
    device: torch.device | None = None,
) -> Tensor:
    """Return the features (N, D) float32 of rows (N, ...), the encoder in evaluation mode.

    Args:
        clean: turns stored rows into the encoder's input, as a domain's ``Views.clean`` does. By
            default rows are such inputs already.
        device: the encoder's; needed where rows are on the host.

    Raises:
        UserError: some features are not finite, so that every metric of them would mislead.
    """
    encoder.eval()
    blocks = (send(block, device or rows.device) for block in rows.split(BATCH))
    features = torch.cat([encoder(clean(block)).flatten(1).float() for block in blocks])
    if not features.isfinite().all():
        raise UserError("the encoder's features are not finite: lower learning_rate, or look at the data")
    return features


def knn_accuracy(bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor, neighbours: int) -> float:
    """Return the accuracy in percent of a vote among the ``neighbours`` most similar rows (cosine).

    Args:
        bank: (M, D). queries: (N, D). neighbours: cut to M. A tie goes to the lower class.
    """
    bank, k = F.normalize(bank, dim=1), min(neighbours, len(bank))
    right = torch.zeros((), device=bank.device)
    for block, truth in zip(queries.split(2000), labels.split(2000), strict=True):
        nearest = bank_labels[(F.normalize(block, dim=1) @ bank.T).topk(k, dim=1).indices]
        right += (F.one_hot(nearest, int(bank_labels.max()) + 1).sum(1).argmax(1) == truth).sum()
    return float(right) / len(queries) * 100


def random_subset(rows: Tensor, size: int = SPREAD_ROWS) -> Tensor:
    """Return ``size`` rows of (N, ...) at random, the same ones each time, in their order.

    Return all rows where there are fewer.

    Evenly spaced rows would miss classes where the rows follow a pattern.
    """
    if len(rows) <= size:
        return rows
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:size].sort().values
    return rows[chosen.to(rows.device)]


def feature_std(features: Tensor) -> float:
    """Return how far the normalised features (N, D) spread: 1 = isotropic, 0 = collapsed.

    The mean over dimensions of their standard deviation, x sqrt(D).
    """
    return float(F.normalize(features, dim=1).std(0).mean()) * math.sqrt(features.shape[1])


def effective_rank(features: Tensor) -> float:
    """Return how many directions the features (N, D) use.

    It is exp of the entropy of their centred, normalised spectrum.
    """
    values = torch.linalg.svdvals((features - features.mean(0)).double())
    share = values / values.sum().clamp_min(1e-300)
    return float(torch.exp(-(share * share.clamp_min(1e-300).log()).sum()))


def alignment(first: Tensor, second: Tensor) -> float:
    """Return the mean squared distance of two views' normalised features (N, D).

    Wang and Isola, 2020.
    """
    return float((F.normalize(first, dim=1) - F.normalize(second, dim=1)).square().sum(1).mean())


def uniformity(features: Tensor) -> float:
    """Return the log of the mean over pairs of exp(-2 squared distance) of the features (N, D).

    The features are normalised first.

    Wang and Isola, 2020.
    """
    return float(torch.pdist(F.normalize(features, dim=1)).square().mul(-2).exp().mean().log())


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Return the Fréchet distance between Gaussians fitted to features (N, D) and (M, D).

    The features are normalised first.

    Dowson and Landau, 1982. The trace of the root of the covariances' product is the nuclear norm
    of a product of their factors; no root is taken.
    """
    means, factors = [], []
    for features in (first, second):
        normalised = F.normalize(features, dim=1).double()
        means.append(normalised.mean(0))
        factors.append(torch.linalg.qr((normalised - means[-1]) / math.sqrt(len(features) - 1), mode="r").R)
    cross = torch.linalg.svdvals(factors[0] @ factors[1].T).sum()
    return float(
        (means[0] - means[1]).square().sum() + factors[0].square().sum() + factors[1].square().sum() - 2 * cross
    )
