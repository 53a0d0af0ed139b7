"""Linear evaluation of frozen features, and all figures of one encoder (section 3)."""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imix.datasets import Dataset, nested_rows
from imix.features import (
    BATCH,
    COLLAPSED,
    PAIR_ROWS,
    alignment,
    effective_rank,
    evenly,
    extract,
    feature_std,
    frechet_distance,
    knn_accuracy,
    uniformity,
)
from imix.runtime import machine
from imix.settings import Evaluation, Probe
from imix.views import Views, make_views

FEW_LABELS = {"linear_accuracy_1_percent": 0.01, "linear_accuracy_10_percent": 0.1}  # shares of the training rows' labels
ALIGNED_ROWS = 200  # test rows whose two views alignment compares


class Probes(NamedTuple):
    """R linear classifiers: ``weights`` (R, D, C), ``biases`` (R, C)."""

    weights: Tensor
    biases: Tensor

    def predict(self, features: Tensor) -> Tensor:
        """Classes (R, N) of features (N, D)."""
        return torch.cat(
            [(self.weights.transpose(1, 2) @ block.T + self.biases[:, :, None]).argmax(1) for block in features.split(10_000)], dim=1
        )


def train_probes(copies: list[Tensor], labels: Tensor, classes: int, settings: Probe, seed: int) -> Probes:
    """Train one linear classifier per learning rate, all at once, on the same batches (section 3).

    SGD with momentum, no weight decay, rate x batch / 256, x 0.2 at each milestone. The R classifiers share every
    batch's features, so that one matrix product serves them all; the gradient of the cross-entropy is written out.

    Args:
        copies: feature matrices (N, D) of the same rows, one per augmented copy; epoch e uses copy e modulo their number.
        labels: (N,) int64. classes: their number. seed: of the first weights and of the rows' order.
    """
    generator = torch.Generator().manual_seed(seed)
    device, dimension, rates = labels.device, copies[0].shape[1], len(settings.rates)
    batch_size = min(settings.batch_size, len(labels))
    bound = 1 / math.sqrt(dimension)
    # every rate starts from the same weights; a last row of ones carries the bias
    first = (torch.rand(dimension + 1, classes, generator=generator) * 2 - 1) * bound
    weights = first.T.to(device).repeat_interleave(rates, 0)  # (C * R, D + 1): the softmax runs over the slowest dimension
    velocity = torch.zeros_like(weights)
    one_hot = F.one_hot(labels, classes).float().T
    rate = torch.tensor(settings.rates, device=device).repeat(classes)[:, None] * settings.batch_size / 256
    for epoch in range(settings.epochs):
        step = rate * 0.2 ** sum(epoch >= milestone for milestone in settings.milestones)
        features = copies[epoch % len(copies)]
        order = torch.randperm(len(labels), generator=generator).to(device)
        for rows in order.split(batch_size):
            x = F.pad(features[rows], (0, 1), value=1.0)
            error = (weights @ x.T).view(classes, rates, len(rows)).softmax(0) - one_hot[:, None, rows]
            velocity.mul_(settings.momentum).addmm_(error.flatten(0, 1), x, alpha=1 / len(rows))
            weights.addcmul_(velocity, step, value=-1)
    stacked = weights.view(classes, rates, dimension + 1).permute(1, 2, 0)
    return Probes(stacked[:, :-1], stacked[:, -1])


def accuracy(predictions: Tensor, labels: Tensor) -> Tensor:
    """Share of right predictions over the last dimension, in percent: (..., N), (N,) -> (...)."""
    return (predictions == labels).float().mean(-1) * 100


def balanced_accuracy(predictions: Tensor, labels: Tensor) -> Tensor:
    """Mean of the recalls of the classes that occur, over the last dimension, in percent: (..., N), (N,) -> (...)."""
    recalls = [accuracy(predictions[..., labels == label], labels[labels == label]) for label in labels.unique()]
    return torch.stack(recalls).mean(0)


def judge(encoder: nn.Module, dataset: Dataset, asked: Evaluation, seed: int) -> dict[str, Any]:
    """All figures of one encoder (`evaluate`), with the views of the data set's recipe, and what they were made with."""
    figures = evaluate(encoder, make_views(asked.views, dataset), dataset, asked.probe, seed)
    return figures | {"evaluation": asked.model_dump(), "machine": machine(dataset.train.device)}


def evaluate(encoder: nn.Module, views: Views, dataset: Dataset, settings: Probe, seed: int) -> dict[str, float | int | list[float]]:
    """All figures of one encoder on one data set, in percent where they are accuracies.

    The learning rate is chosen on the validation rows by probes that never saw them; where those rows were carved from
    the training rows, the probes are then trained again on all of these, as the paper's are. The best rate by test
    accuracy, the published protocol, stands beside it as ``linear_accuracy_test_selected``.

    Args:
        encoder: (N, ...) -> (N, D); its features before the projection head are judged. views: of the data set's recipe, whatever
            this encoder was trained with, so that alignment means the same for all.
    """
    classes, seed = len(dataset.classes), settings.seed + seed
    train, test = extract(encoder, views, dataset.train), extract(encoder, views, dataset.test)
    validation = train[len(dataset.fit) :] if dataset.carved else extract(encoder, views, dataset.validation)
    copies = _augmented(encoder, views, dataset.train, settings, seed) or [train]
    probes = train_probes([copy[: len(dataset.fit)] for copy in copies], dataset.fit_labels, classes, settings, seed)
    on_validation = accuracy(probes.predict(validation), dataset.validation_labels)
    if dataset.carved:
        probes = train_probes(copies, dataset.train_labels, classes, settings, seed)
    predictions = probes.predict(test)
    on_test = accuracy(predictions, dataset.test_labels)
    chosen = int(on_validation.argmax())
    spread = feature_std(evenly(test))
    return {
        "linear_accuracy": float(on_test[chosen]),
        "linear_accuracy_test_selected": float(on_test.max()),
        "linear_accuracy_validation": float(on_validation[chosen]),
        "balanced_accuracy": float(balanced_accuracy(predictions[chosen], dataset.test_labels)),
        "knn_accuracy": knn_accuracy(train, dataset.train_labels, test, dataset.test_labels, settings.neighbours),
        "train_accuracy": float(accuracy(probes.predict(train)[chosen], dataset.train_labels)),
        **_with_few_labels(train, test, validation, dataset, settings, seed),
        "feature_std": spread,
        "collapsed": spread < COLLAPSED,
        "effective_rank": effective_rank(evenly(test)),
        "alignment": alignment(*_two_views(encoder, views, evenly(dataset.test, ALIGNED_ROWS), seed)),
        "uniformity": uniformity(evenly(test, PAIR_ROWS)),
        "frechet_distance": frechet_distance(evenly(train), evenly(test)),
        "probe_rate": settings.rates[chosen],
        "test_accuracy_per_rate": on_test.tolist(),
        "validation_accuracy_per_rate": on_validation.tolist(),
    }


@torch.no_grad()
def _augmented(encoder: nn.Module, views: Views, rows: Tensor, settings: Probe, seed: int) -> list[Tensor]:
    """Features of ``settings.copies`` augmented copies of the rows; images only, which the settings see to."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.cat([encoder(views.padded_crops(batch, settings.flip, generator)).flatten(1).float() for batch in rows.split(BATCH)])
        for _ in range(settings.copies)
    ]


def _with_few_labels(train: Tensor, test: Tensor, validation: Tensor, dataset: Dataset, settings: Probe, seed: int) -> dict[str, float]:
    """Test accuracy of probes that saw the labels of a few of the ``fit`` rows; the rate is chosen on all validation rows."""
    figures = {}
    for name, fraction in FEW_LABELS.items():
        rows = nested_rows(dataset.fit_labels, fraction, seed).to(train.device)
        probes = train_probes([train[rows]], dataset.fit_labels[rows], len(dataset.classes), settings, seed)
        chosen = int(accuracy(probes.predict(validation), dataset.validation_labels).argmax())
        figures[name] = float(accuracy(probes.predict(test)[chosen], dataset.test_labels))
    return figures


@torch.no_grad()
def _two_views(encoder: nn.Module, views: Views, rows: Tensor, seed: int) -> list[Tensor]:
    """Features of two random views of the rows."""
    generator = torch.Generator().manual_seed(seed)
    return [encoder(views(rows, which, generator)).flatten(1).float() for which in (0, 1)]
