import math

import numpy as np
import pytest
import torch
from torch import nn

from imix import evaluation, features
from imix.settings import Probe

SETTINGS = dict(rates=[0.1, 3.0, 30.0], epochs=6, batch_size=32, momentum=0.9, milestones=[4], copies=0, flip=False, neighbours=5, seed=0)


def blobs(generator, n=100, classes=4, spread=0.5):
    labels = torch.randint(classes, (n,), generator=generator)
    return torch.eye(classes, 7)[labels] + spread * torch.randn(n, 7, generator=generator), labels


def test_all_rates_at_once_are_the_rates_one_by_one(generator):
    features, labels = blobs(generator)
    settings = Probe(**SETTINGS)
    probes = evaluation.train_probes([features], labels, 4, settings, seed=1)
    for r, rate in enumerate(settings.rates):
        torch.manual_seed(0)
        draw = torch.Generator().manual_seed(1)
        first = (torch.rand(8, 4, generator=draw) * 2 - 1) / 7**0.5
        model = nn.Linear(7, 4)
        with torch.no_grad():
            model.weight.copy_(first[:7].T)
            model.bias.copy_(first[7])
        optimiser = torch.optim.SGD(model.parameters(), lr=rate * 32 / 256, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimiser, [4], 0.2)
        for _ in range(6):
            for rows in torch.randperm(100, generator=draw).split(32):
                optimiser.zero_grad()
                nn.functional.cross_entropy(model(features[rows]), labels[rows]).backward()
                optimiser.step()
            scheduler.step()
        assert torch.allclose(probes.weights[r], model.weight.T, atol=1e-4)
        assert torch.allclose(probes.biases[r], model.bias, atol=1e-4)
        assert torch.equal(probes.predict(features)[r], model(features).argmax(1))


def test_probe_learns_and_copies_take_turns(generator):
    features, labels = blobs(generator, spread=0.2)
    probes = evaluation.train_probes([features, -features], labels, 4, Probe(**SETTINGS | dict(epochs=1, milestones=[])), 0)
    same = evaluation.train_probes([features], labels, 4, Probe(**SETTINGS | dict(epochs=1, milestones=[])), 0)
    assert torch.equal(probes.weights, same.weights)  # epoch 0 uses copy 0
    learned = evaluation.train_probes([features], labels, 4, Probe(**SETTINGS), 0)
    assert (evaluation.accuracy(learned.predict(features), labels) > 95).any()


def test_knn_is_the_loop(generator):
    bank, bank_labels = blobs(generator)
    queries, labels = blobs(generator, n=40)
    right = 0
    for query, label in zip(queries, labels, strict=True):
        similarity = torch.stack([query @ row / query.norm() / row.norm() for row in bank])
        votes = bank_labels[similarity.argsort(descending=True)[:5]].bincount(minlength=4)
        right += int(votes.argmax() == label)
    assert abs(features.knn_accuracy(bank, bank_labels, queries, labels, 5) - right / 40 * 100) < 1e-4
    assert features.knn_accuracy(bank, bank_labels, bank, bank_labels, 1) == 100
    assert features.knn_accuracy(bank[:3], bank_labels[:3], queries, labels, 200) <= 100


def test_balanced_accuracy():
    labels, predictions = torch.tensor([0, 0, 0, 2]), torch.tensor([0, 0, 1, 1])
    assert torch.isclose(evaluation.balanced_accuracy(predictions, labels), torch.tensor(100 / 3))
    assert torch.isclose(evaluation.accuracy(predictions, labels), torch.tensor(50.0))


def test_collapse_figures(generator):
    isotropic = torch.randn(5000, 16, generator=generator)
    assert abs(features.feature_std(isotropic) - 1) < 0.05
    assert abs(features.effective_rank(isotropic) - 16) < 0.5
    line = torch.randn(500, 1, generator=generator) * torch.ones(16)
    assert abs(features.effective_rank(line) - 1) < 0.01
    assert features.feature_std(torch.ones(50, 16)) == 0 and features.effective_rank(torch.ones(50, 16)) < 1.01


def test_alignment_and_uniformity_are_their_definitions(generator):
    one, two = torch.randn(2, 30, 5, generator=generator).double()
    unit = one / one.norm(dim=1, keepdim=True)
    other = two / two.norm(dim=1, keepdim=True)
    assert abs(features.alignment(one, two) - sum(float((a - b) @ (a - b)) for a, b in zip(unit, other, strict=True)) / 30) < 1e-9
    pairs = [math.exp(-2 * float((unit[i] - unit[j]) @ (unit[i] - unit[j]))) for i in range(30) for j in range(i)]
    assert abs(features.uniformity(one) - math.log(sum(pairs) / len(pairs))) < 1e-9
    assert features.alignment(one, 3 * one) < 1e-12 and features.uniformity(torch.ones(30, 5)) == 0


@pytest.mark.parametrize("rows", [40, 6])  # more and fewer than dimensions
def test_frechet_distance_is_its_definition(generator, rows):
    first, second = torch.randn(50, 8, generator=generator), torch.randn(rows, 8, generator=generator) + 1
    a, b = (torch.nn.functional.normalize(z, dim=1).double().numpy() for z in (first, second))
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    expected = (
        ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b) - 2 * np.sqrt(np.linalg.eigvals(cov_a @ cov_b).clip(0)).sum().real
    )
    assert abs(features.frechet_distance(first, second) - expected) < 1e-6
    assert abs(features.frechet_distance(first, first)) < 1e-9
