import copy
import math
from pathlib import Path

import pytest
import torch

from imix import mixing, pretraining
from imix.datasets import Dataset, nested_rows
from imix.errors import UserError
from imix.evaluation import evaluate
from imix.progress import Progress
from imix.runtime import streams
from imix.settings import PRETRAINING, Probe
from tests.test_methods import BASE, OWN

PROBE = Probe(rates=[0.3, 3.0, 30.0], epochs=30, batch_size=64, momentum=0.9, milestones=[25], copies=0, flip=False, neighbours=5, seed=0)


def dataset(rows=160, classes=4):
    """Clusters in ten numbers: real enough to learn, small enough for every method."""
    generator = torch.Generator().manual_seed(7)
    centres = 4 * torch.randn(classes, 10, generator=generator)

    def split(n):
        labels = torch.arange(n) % classes
        return centres[labels] + torch.randn(n, 10, generator=generator), labels

    train, validation, test = split(rows), split(40), split(80)
    everything = torch.cat([train[0], validation[0]])
    return Dataset(
        train=everything,
        train_labels=torch.cat([train[1], validation[1]]),
        fit=train[0],
        fit_labels=train[1],
        validation=validation[0],
        validation_labels=validation[1],
        test=test[0],
        test_labels=test[1],
        mean=everything.mean(0),
        std=everything.std(0),
        background=torch.zeros(0, 0),
        classes=list("abcd"),
        carved=True,
        column_groups=[4, 6],
        numbers=10,
        sha256="0",
        card={},
    )


def settings(method, mix="imix", **changes):
    return PRETRAINING[method].model_validate(
        BASE
        | OWN[method]
        | {
            "views": {"kind": "tabular", "masking": [0.2, 0.2]},
            "encoder": {"kind": "mlp", "width": 1 / 64},
            "batch_size": 40,
            "epochs": 8,
            "learning_rate": 0.5,
            "knn_every": 4,
            "mix": mix,
            "alpha": None if mix == "none" else 1.0,
        }
        | changes
    )


def train(method, mix="imix", seed=0, resume=Path("nowhere/state.pt"), **changes):
    training = pretraining.Training(dataset(), method, settings(method, mix, **changes), seed)
    pretraining.run(training, "test", resume)
    return training


@pytest.mark.parametrize("method", OWN)
@pytest.mark.parametrize("mix", ["none", "imix"])
def test_learns(method, mix):
    training = train(method, mix, epochs=30)
    losses = [line["loss"] for line in training.history]
    assert losses[-1] < losses[0] - 0.1
    if method == "npair" and mix == "none":
        assert losses[-1] < math.log(40)  # below chance: log of the contrast set
    figures = evaluate(training.method.encoder, training.views, training.dataset, PROBE, 0)
    assert figures["linear_accuracy"] > 80 and figures["knn_accuracy"] > 80  # chance is 25
    assert figures["linear_accuracy_test_selected"] >= figures["linear_accuracy"]


@pytest.mark.parametrize("method", OWN)
def test_same_seed_same_training_other_seed_another(method):
    one, two, other = train(method), train(method), train(method, seed=1)
    for a, b in zip(one.method.state_dict().values(), two.method.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert pretraining.history_csv(one.history) == pretraining.history_csv(two.history) != pretraining.history_csv(other.history)


@pytest.mark.parametrize("method", OWN)
def test_interrupted_equals_uninterrupted(method, tmp_path, monkeypatch):
    whole = train(method)
    monkeypatch.setattr(pretraining, "SAVE_SECONDS", -1.0)  # save after every epoch
    resume = tmp_path / "state.pt"
    killed = pretraining.Training(dataset(), method, settings(method), 0)
    original, count = killed.run_epoch, iter(range(100))

    def dies(progress):
        if next(count) == 5:
            raise KeyboardInterrupt
        original(progress)

    killed.run_epoch = dies
    with pytest.raises(KeyboardInterrupt):
        pretraining.run(killed, "test", resume)
    continued = pretraining.Training(dataset(), method, settings(method), 0)
    pretraining.run(continued, "test", resume)
    for a, b in zip(whole.method.state_dict().values(), continued.method.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert pretraining.history_csv(whole.history) == pretraining.history_csv(continued.history)
    assert [p.name for p in tmp_path.iterdir()] == ["state.pt"]


def test_a_damaged_state_is_told(tmp_path):
    resume = tmp_path / "state.pt"
    resume.write_bytes(b"nothing that was saved")
    with pytest.raises(UserError, match=r"state.pt: not a saved training .* remove it to start afresh"):
        train("npair", resume=resume)


def test_resume_is_named_by_everything(monkeypatch):
    paths = {pretraining.resume_path(identity, data) for identity in ({"seed": 0}, {"seed": 1}) for data in ("a", "b")}
    assert len(paths) == 4
    monkeypatch.setenv("IMIX_RESUME", "elsewhere")
    assert pretraining.resume_path({}, "a").parent.name == "elsewhere"


def test_sgd_is_torchs():
    mine, theirs = [torch.nn.Parameter(torch.randn(4, 3)) for _ in range(2)], None
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in mine]
    ours, reference = pretraining.SGD(mine, 0.9, 1e-2), torch.optim.SGD(theirs, lr=1.0, momentum=0.9, weight_decay=1e-2)
    for step in range(6):
        rate = 0.1 / (step + 1)
        reference.param_groups[0]["lr"] = rate
        for parameters in (mine, theirs):
            sum((p.square() * (k + 1)).sum() for k, p in enumerate(parameters)).backward()
        ours.step(rate)
        reference.step()
        reference.zero_grad()
        assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(mine, theirs, strict=True))
        assert all(p.grad is None for p in mine)


def test_learning_rate_schedule():
    plan = settings("npair", epochs=500, warmup_epochs=5, batch_size=128, learning_rate=0.125)

    def rate(step):
        return pretraining.learning_rate(step, 10, plan)

    peak = 0.125 / 2
    at_five = peak * (1 + math.cos(math.pi * 5 / 500)) / 2
    assert rate(49) == pytest.approx(at_five) == rate(50)  # the warm-up ends on the cosine's value
    assert rate(0) == pytest.approx(at_five / 50) and rate(24) == pytest.approx(at_five / 2)
    assert rate(2500) == rate(2509) == pytest.approx(peak / 2)  # constant within an epoch
    steps = settings("npair", epochs=500, schedule="step", milestones=[300, 400], batch_size=256, learning_rate=1.0)
    assert [pretraining.learning_rate(epoch * 10, 10, steps) for epoch in (0, 299, 300, 399, 400)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_plain_and_mixed_share_weights_rows_and_views():
    plain, mixed = (pretraining.Training(dataset(), "npair", settings("npair", mix), 3) for mix in ("none", "imix"))
    assert all(torch.equal(a, b) for a, b in zip(plain.method.parameters(), mixed.method.parameters(), strict=True))
    seen = []
    for training in (plain, mixed):
        inner, calls = training.views, []

        def watched(rows, which, generator, inner=inner, calls=calls):
            calls.append(inner(rows, which, generator))
            return calls[-1]

        watched.clean = inner.clean
        training.views = watched
        with Progress("test", 1000, 8) as progress:
            training.run_epoch(progress)
            training.run_epoch(progress)
        seen.append(torch.stack(calls))
    assert torch.equal(*seen)


def test_inputmix_comes_before_imix_on_both_views():
    training = pretraining.Training(dataset(), "npair", settings("npair", inputmix=2, augment=False), 0)
    clean, views = training.views.clean(training.rows[:40]), []
    training._loss = lambda *pair: views.extend(pair)
    training.step_loss(torch.arange(40))
    assert len(views) == 2 and not any(torch.equal(a, b) for a, b in ((views[0], views[1]), (views[0], clean), (views[1], clean)))


def test_without_augmentation_both_views_are_the_clean_rows():
    training = pretraining.Training(dataset(), "npair", settings("npair", augment=False), 0)
    views = [training._view(training.rows[:40], which) for which in (0, 1)]
    assert all(torch.equal(view, training.views.clean(training.rows[:40])) for view in views)


def test_controls_separate_inputs_from_labels_and_views(generator):
    anchors, keys = torch.eye(40), torch.eye(40).flip(0)

    def mixed(mix="imix", **changes):
        return pretraining.mix_views(anchors, keys, settings("npair", mix, **changes), generator)

    a, k, mixture = mixed()
    assert torch.equal(a, mixture.inputs) and torch.equal(k, keys) and len(mixture.lam.unique()) > 30
    a, k, mixture = mixed(mix_inputs="neither")
    assert torch.equal(a, anchors) and torch.equal(k, keys) and (mixture.lam < 1).any()
    a, k, mixture = mixed(mix_inputs="both")
    assert torch.equal(a, mixture.inputs) and torch.allclose(k, a.flip(1))  # the same partners and weights
    a, k, mixture = mixed(mix_labels=False)
    assert not torch.equal(a, anchors) and torch.equal(k, keys) and mixture is None
    assert len(mixed(shared_lam=True)[2].lam.unique()) == 1
    a, k, mixture = mixed("none")
    assert a is anchors and k is keys and mixture is None


@pytest.mark.parametrize("method", ["npair", "moco", "byol", "supervised"])
@pytest.mark.parametrize("groups", [1, 2])
def test_hidden_features_are_mixed_before_one_block(method, groups, monkeypatch):
    """Before the first block, where inputs are linear: the encoder's own layers after mixing by hand."""
    training = pretraining.Training(dataset(), method, settings(method, mix_depth="hidden", groups=groups), 0)
    training.method.encoder.blocks = training.method.encoder.blocks[:1]
    one, hidden = copy.deepcopy(training), []
    training.method.encoder.blocks[0].register_forward_hook(lambda module, given, made: hidden.append(given[0]))
    loss = training.step_loss(torch.arange(40))
    assert loss.isfinite() and len(hidden) == groups
    anchors = one._view(one.rows[:40], 0)
    _, partner, lam = mixing.mixup(anchors, 1.0, groups=groups, generator=one.streams.mixing)
    plain = torch.cat(
        [layer(c) for layer, c in zip(one.method.encoder.inputs, anchors.split(one.method.encoder.groups, 1), strict=True)], 1
    )
    expected = mixing.blend(plain, plain[partner], lam)
    assert torch.allclose(torch.cat([block[: 40 // groups] for block in hidden]), expected, atol=1e-6)
    assert training.step_loss(torch.arange(40)).isfinite()


def test_supervised_training_is_cross_entropy_and_never_sees_validation_labels():
    training = pretraining.Training(dataset(), "supervised", settings("supervised", "none"), 0)
    assert torch.equal(training.rows, dataset().fit) and torch.equal(training.labels, dataset().fit_labels)
    assert len(training.rows) == 160 < len(dataset().train)
    rows = torch.arange(40)
    view = training.views(training.rows[rows], 0, streams(0).views)
    expected = torch.nn.functional.cross_entropy(copy.deepcopy(training.method.network())(view), training.labels[rows])
    assert float(training.step_loss(rows).detach()) == pytest.approx(float(expected.detach()), rel=1e-6)


def test_mixed_supervised_training_is_cross_entropy_with_mixed_labels():
    training = pretraining.Training(dataset(), "supervised", settings("supervised"), 0)
    rows, other = torch.arange(40), streams(0)
    mixed, partner, lam = mixing.mixup(training.views(training.rows[rows], 0, other.views), 1.0, generator=other.mixing)
    one_hot = torch.nn.functional.one_hot(training.labels[rows], 4).float()
    target = lam[:, None] * one_hot + (1 - lam)[:, None] * one_hot[partner]
    expected = torch.nn.functional.cross_entropy(copy.deepcopy(training.method.network())(mixed), target)
    assert float(training.step_loss(rows).detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_a_moving_average_moves_once_a_step_even_when_symmetric():
    training = pretraining.Training(dataset(), "byol", settings("byol", "none", symmetric=True, ema=0.5), 0)
    before = [p.clone() for p in training.method.keys.parameters()]
    with torch.no_grad():
        for p in training.method.network().parameters():
            p.add_(1.0)
    training.step_loss(torch.arange(40))
    for old, new in zip(before, training.method.keys.parameters(), strict=True):
        assert torch.allclose(new, old + 0.5, atol=1e-6)


def test_a_symmetric_loss_is_the_mean_of_both_directions():
    training = pretraining.Training(dataset(), "npair", settings("npair", "none", symmetric=True), 0)
    one, two = (pretraining.Training(dataset(), "npair", settings("npair", "none"), 0) for _ in range(2))
    rows = torch.arange(40)
    anchors, keys = (one.views(one.rows[rows], which, one.streams.views) for which in (0, 1))
    assert float(training.step_loss(rows).detach()) == pytest.approx(
        float((one._loss(anchors, keys) + two._loss(keys, anchors)).detach()) / 2, rel=1e-6
    )


def test_smaller_shares_lie_inside_larger_ones():
    labels = torch.tensor([0] * 50 + [1] * 30 + [2])
    shares = [set(nested_rows(labels, fraction, 5).tolist()) for fraction in (0.1, 0.5, 1.0)]
    assert shares[0] < shares[1] < shares[2] == set(range(81))
    assert labels[sorted(shares[1])].bincount().tolist() == [25, 15, 1]
    assert shares[1] != set(nested_rows(labels, 0.5, 6).tolist())
    assert len(pretraining.Training(dataset(), "npair", settings("npair", fraction=0.5), 0).rows) == 100


def test_mistakes_are_told():
    with pytest.raises(UserError, match="batch_size = 4000: must be at most the 200 training rows"):
        pretraining.Training(dataset(), "npair", settings("npair", batch_size=4000), 0)
    with pytest.raises(UserError, match="the loss is nan in epoch"):
        train("npair", learning_rate=1e18)
