import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from imix import domains, evaluation, features
from imix.errors import UserError
from imix.evaluation import Probe
from tests.test_pretraining import PROBE, dataset

SETTINGS = {
    "rates": [0.1, 3.0, 30.0],
    "epochs": 6,
    "batch_size": 32,
    "momentum": 0.9,
    "milestones": [4],
    "copies": 0,
    "flip": False,
    "neighbours": 5,
    "seed": 0,
}
SHORT = Probe(**SETTINGS | {"epochs": 1, "milestones": []})
DOMAIN = domains.domain_class("tabular").model_validate(
    {"kind": "tabular", "encoder": {"width": 1 / 64}, "views": {"masking": [0.2, 0.2]}}
)


@pytest.fixture
def encoder():
    return domains.make_encoder("tabular", DOMAIN.encoder, dataset())


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
    probes = evaluation.train_probes([features, -features], labels, 4, SHORT, 0)
    same = evaluation.train_probes([features], labels, 4, SHORT, 0)
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
    assert evaluation.balanced_accuracy(predictions, labels) == pytest.approx(100 / 3)
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
    distances = [float((a - b) @ (a - b)) for a, b in zip(unit, other, strict=True)]
    assert abs(features.alignment(one, two) - sum(distances) / 30) < 1e-9
    pairs = [math.exp(-2 * float((unit[i] - unit[j]) @ (unit[i] - unit[j]))) for i in range(30) for j in range(i)]
    assert abs(features.uniformity(one) - math.log(sum(pairs) / len(pairs))) < 1e-9
    assert features.alignment(one, 3 * one) < 1e-12 and features.uniformity(torch.ones(30, 5)) == 0


@pytest.mark.parametrize("rows", [40, 6])  # more and fewer than dimensions
def test_frechet_distance_is_its_definition(generator, rows):
    first, second = torch.randn(50, 8, generator=generator), torch.randn(rows, 8, generator=generator) + 1
    a, b = (torch.nn.functional.normalize(z, dim=1).double().numpy() for z in (first, second))
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    roots = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).clip(0)).sum().real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b) - 2 * roots
    assert abs(features.frechet_distance(first, second) - expected) < 1e-6
    assert abs(features.frechet_distance(first, first)) < 1e-9


def test_balanced_accuracy_is_scikit_learns(generator):
    from sklearn.metrics import balanced_accuracy_score

    labels, predictions = torch.randint(5, (2, 60), generator=generator)
    expected = 100 * balanced_accuracy_score(labels.numpy(), predictions.numpy())
    assert evaluation.balanced_accuracy(predictions, labels) == pytest.approx(expected)


def test_a_trained_probe_is_logistic_regression(generator):
    """Trained for long at a decaying rate, the probe predicts what scikit-learn's classifier without penalty does."""
    from sklearn.linear_model import LogisticRegression

    rows, labels = blobs(generator, n=200, spread=0.8)
    settings = {"rates": [3.0], "epochs": 400, "batch_size": 200, "milestones": [200, 300]}
    probes = evaluation.train_probes([rows], labels, 4, Probe(**SETTINGS | settings), 0)
    reference = LogisticRegression(C=1e6, max_iter=2000).fit(rows.numpy(), labels.numpy())
    logits = rows @ probes.weights[0] + probes.biases[0]
    expected = torch.tensor(reference.predict_proba(rows.numpy()))
    assert (logits.softmax(1) - expected).abs().max() < 0.02


def test_knn_accuracy_is_scikit_learns(generator):
    from sklearn.neighbors import KNeighborsClassifier

    (bank, bank_labels), (queries, labels) = blobs(generator), blobs(generator, n=40)
    # an odd k and two classes: no ties, which the two settle in their own ways
    bank_labels, labels = bank_labels % 2, labels % 2
    reference = KNeighborsClassifier(7, metric="cosine").fit(bank.numpy(), bank_labels.numpy())
    expected = 100 * reference.score(queries.numpy(), labels.numpy())
    assert features.knn_accuracy(bank, bank_labels, queries, labels, 7) == pytest.approx(expected)


def evaluated(encoder, rows, settings=PROBE, seed=0):
    return evaluation.evaluate(encoder, rows, DOMAIN.views, settings, seed)


def test_the_rate_is_chosen_on_validation_rows_by_probes_that_never_saw_them(encoder):
    rows = dataset()
    metrics, views = evaluated(encoder, rows), domains.make_views("tabular", DOMAIN.views, rows)
    fit, validation, train, test = (
        features.extract(encoder, part, views.clean) for part in (rows.fit, rows.validation, rows.train, rows.test)
    )
    probes = evaluation.train_probes([fit], rows.fit_labels, 4, PROBE, 0)
    chosen = int(evaluation.accuracy(probes.predict(validation), rows.validation_labels).argmax())
    assert metrics["probe_rate"] == PROBE.rates[chosen]
    again = evaluation.train_probes([train], rows.train_labels, 4, PROBE, 0)  # the rows were carved
    on_test = evaluation.accuracy(again.predict(test), rows.test_labels)
    assert metrics["linear_accuracy"] == pytest.approx(float(on_test[chosen]))
    assert metrics["linear_accuracy_test_selected"] == pytest.approx(float(on_test.max()))
    assert metrics["test_accuracy_per_rate"] == pytest.approx(on_test.tolist())


def test_evaluation_changes_no_encoder_and_repeats(encoder):
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    first, second = evaluated(encoder, dataset()), evaluated(encoder, dataset())
    assert first == second and first != evaluated(encoder, dataset(), seed=1)
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())


def test_evaluation_is_in_float32_whatever_was_trained_before(encoder, monkeypatch):
    monkeypatch.setattr(torch.backends, "fp32_precision", "tf32")
    evaluated(encoder, dataset())
    assert torch.backends.fp32_precision == "ieee"


def test_labels_of_few_rows_still_evaluate(encoder):
    metrics = evaluated(encoder, dataset(rows=8))  # a hundredth of two rows of each class is one row
    assert 0 <= metrics["linear_accuracy_1_percent"] <= 100


def test_features_that_are_not_finite_are_refused(encoder):
    with torch.no_grad():
        next(encoder.parameters()).fill_(math.nan)
    with pytest.raises(UserError, match="the encoder's features are not finite"):
        evaluated(encoder, dataset())


def test_metrics_are_json(encoder):
    json.dumps(evaluated(encoder, dataset()), allow_nan=False)


def test_random_subsets_are_the_same_each_time_and_in_order():
    rows = torch.arange(100)
    chosen = features.random_subset(rows, 10)
    assert torch.equal(chosen, features.random_subset(rows, 10)) and torch.equal(chosen, chosen.sort().values)
    assert len(chosen.unique()) == 10 and features.random_subset(rows, 100) is rows
