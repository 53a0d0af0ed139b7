"""Linear evaluation of frozen features, and all metrics of one encoder."""

import math
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from imix import domains, runtime
from imix.dataset import Dataset, nested_rows
from imix.features import (
    BATCH,
    COLLAPSED,
    PAIR_ROWS,
    alignment,
    effective_rank,
    extract,
    feature_std,
    frechet_distance,
    knn_accuracy,
    random_subset,
    uniformity,
)
from imix.schema import Count, Epochs, Momentum, Rate, Seed, Strict, Within, once, rising
from imix.sending import send

if TYPE_CHECKING:
    from imix.views.base import Views

FEW_LABELS = {"linear_accuracy_1_percent": 0.01, "linear_accuracy_10_percent": 0.1}  # shares of the rows' labels
ALIGNED_ROWS = 200  # test rows whose two views alignment compares
# metrics that are null for a data set of fewer than two classes
OF_LABELS = (
    "linear_accuracy", "linear_accuracy_test_selected", "linear_accuracy_validation", "balanced_accuracy",
    "knn_accuracy", "train_accuracy", *FEW_LABELS, "probe_rate", "test_accuracy_per_rate",
    "validation_accuracy_per_rate",
)  # fmt: skip


class Probe(Strict):
    """Linear evaluation and kNN on frozen features."""

    rates: Annotated[list[Rate], Field(min_length=1, max_length=100)]  # learning rates, each x batch_size / 256
    epochs: Epochs
    batch_size: Count
    momentum: Momentum
    milestones: list[Epochs]  # epochs at which the rate is multiplied by 0.2
    copies: Annotated[
        int, Within(0, 1_000)
    ]  # augmented copies (pad 4, crop, flip) of the training rows; 0 = clean rows
    flip: bool  # whether those copies are flipped
    neighbours: Count  # k of the kNN
    seed: Seed  # plus the training's seed: initial weights and order of the rows

    @model_validator(mode="after")
    def _possible(self) -> "Probe":
        rising("milestones", self.milestones, self.epochs)
        once("rates", self.rates)
        return self


class Probes(NamedTuple):
    """R linear classifiers: ``weights`` (R, D, C), ``biases`` (R, C)."""

    weights: Tensor
    biases: Tensor

    def predict(self, features: Tensor) -> Tensor:
        """Return classes (R, N) for features (N, D)."""
        weights, biases = self.weights.transpose(1, 2), self.biases[:, :, None]
        return torch.cat([(weights @ block.T + biases).argmax(1) for block in features.split(10_000)], dim=1)


def train_probes(copies: list[Tensor], labels: Tensor, classes: int, settings: Probe, seed: int) -> Probes:
    """Train one linear classifier per learning rate, all at once, on the same batches.

    SGD with momentum and without weight decay; the rate is x batch / 256, and x 0.2 at each
    milestone. The R classifiers share every batch, so that one matrix product serves them all. The
    gradient of the cross-entropy is written out instead of computed by autograd.

    Args:
        copies: feature matrices (N, D) of the same rows, one per augmented copy; epoch e uses copy
            e modulo their number.
        labels: (N,) int64. classes: their number. seed: of the first weights and of the rows'
            order.
    """
    generator = torch.Generator().manual_seed(seed)
    device, dimension, rates = labels.device, copies[0].shape[1], len(settings.rates)
    batch_size = min(settings.batch_size, len(labels))
    bound = 1 / math.sqrt(dimension)
    # every rate starts from the same weights; a last row of ones carries the bias
    first = (torch.rand(dimension + 1, classes, generator=generator) * 2 - 1) * bound
    # (C * R, D + 1): the softmax runs over the slowest dimension
    weights = first.T.to(device).repeat_interleave(rates, 0)
    velocity = torch.zeros_like(weights)
    one_hot = F.one_hot(labels, classes).float().T
    rate = send(torch.tensor(settings.rates), device).repeat(classes)[:, None] * settings.batch_size / 256
    for epoch in range(settings.epochs):
        step = rate * 0.2 ** sum(epoch >= milestone for milestone in settings.milestones)
        features = copies[epoch % len(copies)]
        order = send(torch.randperm(len(labels), generator=generator), device)
        for rows in order.split(batch_size):
            x = F.pad(features[rows], (0, 1), value=1.0)
            error = (weights @ x.T).view(classes, rates, len(rows)).softmax(0) - one_hot[:, None, rows]
            velocity.mul_(settings.momentum).addmm_(error.flatten(0, 1), x, alpha=1 / len(rows))
            weights.addcmul_(velocity, step, value=-1)
    stacked = weights.view(classes, rates, dimension + 1).permute(1, 2, 0)
    return Probes(stacked[:, :-1], stacked[:, -1])


def accuracy(predictions: Tensor, labels: Tensor) -> Tensor:
    """Return the share of right predictions in percent: (..., N), (N,) -> (...)."""
    return (predictions == labels).float().mean(-1) * 100


def balanced_accuracy(predictions: Tensor, labels: Tensor) -> float:
    """Return the mean of the recalls of the classes that occur, in percent: (N,), (N,) -> a number.

    As scikit-learn's, whose import would take every stage a second.
    """
    recalls = [accuracy(predictions[labels == label], labels[labels == label]) for label in labels.unique()]
    return float(torch.stack(recalls).mean())


def evaluate(
    encoder: nn.Module, dataset: Dataset, views_settings: Strict, settings: Probe, seed: int
) -> dict[str, Any]:
    """Return all metrics of one encoder on one data set; accuracies are in percent.

    ``linear_accuracy`` is measured in three steps:

    1. train one probe per learning rate on the ``fit`` rows, and choose the rate on the validation
       rows, which no probe has seen;
    2. where validation rows were carved from the training rows, train the probes again on all
       training rows, as the paper does;
    3. report the test accuracy of the probe of the chosen rate.

    ``linear_accuracy_test_selected`` is the published protocol: the rate that is best on test rows.
    Metrics that need labels, `OF_LABELS`, are None where there are fewer than two classes.

    Args:
        encoder: (N, ...) -> (N, D), without the projection head.
        views_settings: the data set's, not the encoder's, so that alignment means the same for all
            encoders of the data set.
        settings: of the probe and kNN. seed: the training's; the probe's own is added to it.
    """
    runtime.set_precision("float32")  # whatever this process trained in before
    seed = settings.seed + seed
    views = domains.make_views(dataset.kind, views_settings, dataset)
    train, test = (extract(encoder, rows, views.clean, dataset.device) for rows in (dataset.train, dataset.test))
    by_labels = dict.fromkeys(OF_LABELS)
    if dataset.labelled:
        by_labels = _by_labels(encoder, dataset, views, settings, seed, train, test)
    aligned = send(random_subset(dataset.test, ALIGNED_ROWS), dataset.device)
    return by_labels | {
        **_geometry(train, test),
        "alignment": alignment(*_two_views(encoder, views, aligned, seed)),
    }


def _by_labels(
    encoder: nn.Module, dataset: Dataset, views: "Views", settings: Probe, seed: int, train: Tensor, test: Tensor
) -> dict[str, Any]:
    """Return the metrics that need labels, `OF_LABELS`; ``train`` and ``test`` are features."""
    classes, fit = len(dataset.classes), len(dataset.fit)
    # carved validation rows are the last rows of ``train``, whose features are here already
    validation = train[fit:] if dataset.carved else extract(encoder, dataset.validation, views.clean, dataset.device)
    copies = _augmented(encoder, views, dataset, settings, seed) or [train]
    probes = train_probes([copy[:fit] for copy in copies], dataset.fit_labels, classes, settings, seed)
    on_validation = accuracy(probes.predict(validation), dataset.validation_labels)
    if dataset.carved:
        probes = train_probes(copies, dataset.train_labels, classes, settings, seed)
    predictions = probes.predict(test)
    on_test, chosen = accuracy(predictions, dataset.test_labels), int(on_validation.argmax())
    return {
        "linear_accuracy": float(on_test[chosen]),
        "linear_accuracy_test_selected": float(on_test.max()),
        "linear_accuracy_validation": float(on_validation[chosen]),
        "balanced_accuracy": balanced_accuracy(predictions[chosen], dataset.test_labels),
        "knn_accuracy": knn_accuracy(train, dataset.train_labels, test, dataset.test_labels, settings.neighbours),
        "train_accuracy": float(accuracy(probes.predict(train)[chosen], dataset.train_labels)),
        **_with_few_labels(train, test, validation, dataset, settings, seed),
        "probe_rate": settings.rates[chosen],
        "test_accuracy_per_rate": on_test.tolist(),
        "validation_accuracy_per_rate": on_validation.tolist(),
    }


def _geometry(train: Tensor, test: Tensor) -> dict[str, float | int]:
    """Return the metrics of features (N, D) that need no labels."""
    sample = random_subset(test)
    spread = feature_std(sample)
    return {
        "feature_std": spread,
        "collapsed": int(spread < COLLAPSED),
        "effective_rank": effective_rank(sample),
        "uniformity": uniformity(random_subset(test, PAIR_ROWS)),
        "frechet_distance": frechet_distance(random_subset(train), sample),
    }


@torch.no_grad()
def _augmented(encoder: nn.Module, views: "Views", dataset: Dataset, settings: Probe, seed: int) -> list[Tensor]:
    """Return the features of ``settings.copies`` augmented copies of the training rows.

    Only images have copies; the settings are checked for it.
    """
    generator = torch.Generator().manual_seed(seed)
    encoder.eval()

    def features(rows: Tensor) -> Tensor:
        return encoder(views.padded_crops(send(rows, dataset.device), settings.flip, generator)).flatten(1).float()

    blocks = dataset.train.split(BATCH)
    return [torch.cat([features(block) for block in blocks]) for _ in range(settings.copies)]


def _with_few_labels(
    train: Tensor, test: Tensor, validation: Tensor, dataset: Dataset, settings: Probe, seed: int
) -> dict[str, float]:
    """Return test accuracies of probes that are trained with few labels of the ``fit`` rows.

    ``train``, ``test`` and ``validation`` are features. All validation rows choose the rate.
    """
    metrics = {}
    for name, fraction in FEW_LABELS.items():
        rows = send(nested_rows(dataset.fit_labels, fraction, seed), train.device)
        probes = train_probes([train[rows]], dataset.fit_labels[rows], len(dataset.classes), settings, seed)
        chosen = int(accuracy(probes.predict(validation), dataset.validation_labels).argmax())
        metrics[name] = float(accuracy(probes.predict(test)[chosen], dataset.test_labels))
    return metrics


@torch.no_grad()
def _two_views(encoder: nn.Module, views: "Views", rows: Tensor, seed: int) -> list[Tensor]:
    """Return the features of two random views of the rows."""
    generator = torch.Generator().manual_seed(seed)
    return [encoder(views(rows, which, generator)).flatten(1).float() for which in (0, 1)]
