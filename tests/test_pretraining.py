import copy
import itertools
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch

from imix import mixing, pretraining, resuming
from imix.datasets import Dataset, nested_rows
from imix.errors import Stopped, UserError
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


def new(method, mix="imix", seed=0, **changes):
    return pretraining.Training(dataset(), method, settings(method, mix, **changes), seed)


def train(method, mix="imix", seed=0, resume=None, **changes):
    training = new(method, mix, seed, **changes)
    with tempfile.TemporaryDirectory() as folder:
        pretraining.run(training, "test", resume or Path(folder, "cell.state"))
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
    one, other = train(method), train(method, seed=1)
    assert_same(one, train(method))
    assert pretraining.history_csv(one.history) != pretraining.history_csv(other.history)


def assert_same(one, two):
    for a, b in zip(one.method.state_dict().values(), two.method.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert pretraining.history_csv(one.history) == pretraining.history_csv(two.history)


def interrupt(training, step, how):
    """Do something in the middle of a training's step, counted from 0."""
    original, count = training.step_loss, itertools.count()

    def step_loss(rows):
        if next(count) == step:
            how()
        return original(rows)

    training.step_loss = step_loss
    return training


def dies():
    raise KeyboardInterrupt


@pytest.mark.parametrize("method", [*OWN, "supervised"])
@pytest.mark.parametrize("step", [23, 25])  # in the middle of an epoch of five steps, and between two
def test_interrupted_equals_uninterrupted(method, step, tmp_path, monkeypatch):
    monkeypatch.setenv("IMIX_SAVE_SECONDS", "0")  # save after every step
    resume = tmp_path / "states" / "cell.state"
    with pytest.raises(KeyboardInterrupt):
        pretraining.run(interrupt(new(method), step, dies), "test", resume)
    continued = new(method)
    pretraining.run(continued, "test", resume)
    assert_same(continued, train(method, resume=tmp_path / "other"))
    assert [p.name for p in resume.parent.iterdir()] == ["cell.state"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_step_and_saves(number, tmp_path):
    resume, before = tmp_path / "cell.state", signal.getsignal(number)
    with pytest.raises(Stopped, match="test: stopped after epoch 1, step 3; run it again to continue") as stopped:
        pretraining.run(interrupt(new("moco"), 7, lambda: os.kill(os.getpid(), number)), "test", resume)
    assert stopped.value.signal == number and signal.getsignal(number) == before
    continued = new("moco")
    pretraining.run(continued, "test", resume)
    assert_same(continued, train("moco"))


def test_a_second_signal_ends_it_at_once(tmp_path):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        pretraining.run(interrupt(new("npair"), 7, twice), "test", tmp_path / "cell.state")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_costs_the_save_not_the_training(tmp_path, monkeypatch, capsys):
    """The system refuses to write more than 4 KB to any file from the middle of the training on."""
    monkeypatch.setenv("IMIX_SAVE_SECONDS", "0")
    resume, limits, kept = tmp_path / "cell.state", resource.getrlimit(resource.RLIMIT_FSIZE), []

    def full():
        kept.append(resume.read_bytes())
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))

    training = interrupt(new("npair"), 7, full)
    try:
        pretraining.run(training, "test", resume)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert capsys.readouterr().err.count("cell.state: not saved") == 33  # of 40 steps
    assert_same(training, train("npair", resume=tmp_path / "other"))
    assert resume.read_bytes() == kept[0] and {path.name for path in tmp_path.iterdir()} == {"cell.state", "other"}


def test_states_are_bounded_in_number(tmp_path, monkeypatch):
    monkeypatch.setenv("IMIX_SAVE_SECONDS", "0")
    for k in range(2 * resuming.STATES):
        path = tmp_path / (f"{k}.state" if k % 2 else f".{k}.state.{k}.tmp")
        path.write_bytes(b"")
        os.utime(path, (k, k))
    train("npair", epochs=1, resume=tmp_path / "cell.state")
    left = {path.name for path in tmp_path.iterdir()}
    assert len(left) == resuming.STATES and {"cell.state", f"{2 * resuming.STATES - 1}.state"} < left and "1.state" not in left


def test_a_collapsed_encoder_is_flagged(tmp_path, capsys):
    training = new("npair", epochs=1, learning_rate=0.0001)
    original = training.method.encoder.forward
    training.method.encoder.forward = lambda inputs: original(inputs) * 1e-6 + 1
    pretraining.run(training, "test", tmp_path / "cell.state")
    assert training.history[-1]["collapsed"] == 1 and "collapsed: after epoch 1" in capsys.readouterr().err
    assert evaluate(training.method.encoder, training.views, training.dataset, PROBE, 0)["collapsed"] is True
    assert train("npair").history[-1]["collapsed"] == 0


def test_a_damaged_state_is_told(tmp_path):
    resume = tmp_path / "cell.state"
    training = new("moco")
    resuming.save(*training.state(), resume)
    whole = resume.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content in (b"", b"nothing that was saved", whole[:-1], whole[: len(whole) // 2], bytes(flipped)):
        resume.write_bytes(content)
        with pytest.raises(UserError, match=r"cell.state: not a saved training, or damaged; remove it to start afresh"):
            train("moco", resume=resume)


def test_a_state_is_exact(tmp_path):
    one, other = new("moco"), new("moco", seed=1)
    with Progress("test", 1000, 8) as progress:
        for _ in range(7):
            one.run_step(progress)
    one.history[0] |= {"loss": 0.1 + 0.2, "feature_std": math.nan, "tiny": 5e-324}
    resuming.save(*one.state(), tmp_path / "a.state")
    other.load_state(*resuming.load(tmp_path / "a.state"))
    (tensors, facts), (again, same) = one.state(), other.state()
    assert facts["history"] and repr(facts) == repr(same) and tensors.keys() == again.keys()
    assert all(torch.equal(tensors[name], again[name]) and tensors[name].dtype == again[name].dtype for name in tensors)
    assert resuming.load(tmp_path / "none.state") is None


def test_a_finished_training_is_kept_until_its_evaluation(tmp_path, monkeypatch):
    """A kill before DVC has written down the outs would cost the whole training."""
    monkeypatch.setenv("IMIX_RESUME", str(tmp_path))
    identity = {"dataset": "segment", "method": "npair", "mix": "imix", "seed": 0}
    paths = [resuming.resume_path(identity | changes, "a", torch.device("cpu")) for changes in ({}, {"settings": 1}, {"seed": 1})]
    for path in paths:
        resuming.save(*new("npair").state(), path)
    for path in (paths[0], paths[2]):
        resuming.finish(path)
        assert resuming.load(path) is not None and not path.exists()
    resuming.forget(*identity.values())
    assert resuming.load(paths[0]) is None and all(resuming.load(path) for path in paths[1:])


def test_seconds_of_a_continued_training_are_those_of_both_processes(tmp_path):
    resume, began = tmp_path / "cell.state", time.monotonic()
    with pytest.raises(Stopped):
        pretraining.run(interrupt(new("npair"), 7, lambda: (time.sleep(0.3), os.kill(os.getpid(), signal.SIGTERM))), "test", resume)
    continued = new("npair")
    pretraining.run(continued, "test", resume)
    assert 0.3 < continued.seconds < time.monotonic() - began


def test_a_training_is_done_by_one_process_at_a_time(tmp_path):
    code = "import sys; from pathlib import Path; from imix import resuming; resuming.claim(Path(sys.argv[1]), 'x'); print('on'); input()"

    def other(name, **options):
        return subprocess.Popen([sys.executable, "-uc", code, str(tmp_path / name)], text=True, stdin=-1, stdout=-1, **options)

    first = other("aa0000000000.state")
    assert first.stdout.readline() == "on\n"
    with pytest.raises(UserError, match="label: another process is at this training"):
        resuming.claim(tmp_path / "aa0000000000.state", "label")
    resuming.claim(tmp_path / "bb0000000000.state", "label")
    first.kill()
    first.communicate()
    resuming.claim(tmp_path / "aa0000000000.state", "label")


def test_resume_is_named_by_everything(monkeypatch):
    cpu, threads = torch.device("cpu"), torch.get_num_threads()
    cell = {"dataset": "segment", "method": "moco", "mix": "imix"}

    def paths():
        return {resuming.resume_path(cell | {"seed": seed}, data, cpu) for seed in (0, 1) for data in ("a", "b")}

    before = paths()
    assert len(before) == 4 and before == paths()
    torch.set_num_threads(threads + 1)  # rounds otherwise
    assert not before & paths()
    torch.set_num_threads(threads)
    monkeypatch.setenv("IMIX_RESUME", "elsewhere")
    assert resuming.resume_path(cell | {"seed": 0}, "a", cpu).parent.name == "elsewhere"


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
            for _ in range(2 * training.steps):
                training.run_step(progress)
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


def test_a_loss_that_is_not_finite_ends_it_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("IMIX_SAVE_SECONDS", "0")
    training, steps = new("npair"), []
    original = training.step_loss
    training.step_loss = lambda rows: original(rows) * (math.nan if len(steps) == 7 else 1)
    count = training.optimiser.step
    training.optimiser.step = lambda rate: (steps.append(rate), count(rate))
    words = r"test: the loss is not finite at step 8 \(epoch 2\), at a learning rate of .*; last good state: .*cell.state"
    with pytest.raises(UserError, match=words):
        pretraining.run(training, "test", tmp_path / "cell.state")
    assert len(steps) == 8
    tensors, facts = resuming.load(tmp_path / "cell.state")
    assert (facts["epoch"], facts["step"]) == (1, 2) and all(value.isfinite().all() for value in tensors.values())
    monkeypatch.delenv("IMIX_SAVE_SECONDS")
    with pytest.raises(UserError, match=r"not finite .* last good state: none was saved"):
        steep = settings("npair").model_copy(update={"learning_rate": 1e18})
        pretraining.run(pretraining.Training(dataset(), "npair", steep, 0), "test", tmp_path / "steep.state")


def test_out_of_memory_says_what_to_change(tmp_path):
    with pytest.raises(UserError, match="test: out of memory at batch_size = 40: lower it"):
        pretraining.run(interrupt(new("byol"), 3, lambda: torch.empty(1 << 52)), "test", tmp_path / "cell.state")


def test_weights_that_are_not_finite_are_neither_saved_nor_judged(tmp_path, monkeypatch):
    """The loss is computed before the step that spoils them."""
    monkeypatch.setenv("IMIX_SAVE_SECONDS", "0")
    training = new("npair", epochs=1)
    step, count = training.optimiser.step, itertools.count()
    training.optimiser.step = lambda rate: step(math.inf if next(count) == 2 else rate)
    with pytest.raises(UserError, match=r"test: weights are not finite at step 3 \(epoch 1\).*; last good state: .*cell.state"):
        pretraining.run(training, "test", tmp_path / "cell.state")
    tensors, facts = resuming.load(tmp_path / "cell.state")
    assert facts["step"] == 2 and all(tensor.isfinite().all() for tensor in tensors.values())
    with pytest.raises(UserError, match="the encoder's features are not finite"):
        evaluate(training.method.encoder, training.views, training.dataset, PROBE, 0)
