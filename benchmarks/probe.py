"""Linear evaluation: all rates at once over cached features, against one training per rate, cached or not."""

import statistics
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import cells, race, ratio, start
from imix.evaluation import Probe, train_probes
from imix.features import extract
from imix.pretraining import Training

ROWS, CACHED_EPOCHS = 1000, 2


def epoch(
    encode: Callable[[Tensor], Tensor], rows: Tensor, labels: Tensor, probe: Probe, shape: tuple[int, int]
) -> None:
    """Train one epoch of one rate as published code does.

    Args:
        encode: of a batch, the frozen encoder or nothing. shape: features, classes.
    """
    classifier = nn.Linear(*shape)
    optimizer = torch.optim.SGD(classifier.parameters(), lr=probe.batch_size / 256, momentum=probe.momentum)
    for batch in torch.randperm(len(rows)).split(probe.batch_size):
        with torch.no_grad():
            features = encode(rows[batch])
        loss = F.cross_entropy(classifier(features), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def case(name: str, dataset: str, size: float | None, rows: int, rounds: int) -> None:
    """Print a line for a data set's encoder and probe; an epoch or two of the references are timed and multiplied."""
    training: Training = cells.training(dataset, "npair", cells.cell(dataset, "npair", "none", size), rows)
    probe: Probe = cells.probe(dataset).model_copy(update={"copies": 0})
    encoder, views, data = training.method.encoder, training.views, training.dataset
    classes, trainings = len(data.classes), len(probe.rates) * probe.epochs
    shape = (encoder.features, classes)
    cached = extract(encoder, data.train, views.clean)
    sides = {
        "ours": lambda: train_probes([extract(encoder, data.train, views.clean)], data.train_labels, classes, probe, 0),
        "probes": lambda: train_probes([cached], data.train_labels, classes, probe, 0),
        "encoder": lambda: epoch(
            lambda batch: encoder(views.clean(batch)), data.train, data.train_labels, probe, shape
        ),
        "cached": lambda: [epoch(torch.clone, cached, data.train_labels, probe, shape) for _ in range(CACHED_EPOCHS)],
    }
    times = race(sides, rounds)
    through = [t * trainings for t in times["encoder"]]
    apart = [t * trainings / CACHED_EPOCHS for t in times["cached"]]
    print(
        f"{name}, {rows} rows, {len(probe.rates)} rates, {probe.epochs} epochs, n = {rounds}: "
        f"{ratio(times['ours'], through)} times as "
        f"fast as through the encoder; the probes alone {ratio(times['probes'], apart)} times as fast "
        f"as one by one on cached "
        f"features; {statistics.median(times['ours']):.2f} s",
        flush=True,
    )


def main() -> None:
    """The default study's encoders; ``--full``: also ResNet-18 and the tabular network of the paper."""
    start()
    case("mnist", "mnist", None, ROWS, 3)
    case("diamonds", "diamonds", None, ROWS, 3)
    case("ResNet-18 on CIFAR-10", "cifar10", 18, 256, 3)
    if "--full" in sys.argv:
        case("ResNet-50 on CIFAR-10", "cifar10", 50, ROWS, 3)
        case("MLP x 1 on CovType", "covtype", 1.0, 4 * ROWS, 3)


if __name__ == "__main__":
    main()
