import copy
import itertools
import math
import os
import signal
import time

import pytest
import torch

from imix import domains, jobs, mixing, pretraining, runtime, store
from imix.dataset import Dataset, nested_rows
from imix.errors import Stopped, UserError, noted_signals
from imix.evaluation import Probe, evaluate
from tests import test_device
from tests.test_methods import BASE, OWN

PROBE = Probe(
    rates=[0.3, 3.0, 30.0],
    epochs=30,
    batch_size=64,
    momentum=0.9,
    milestones=[25],
    copies=0,
    flip=False,
    neighbours=5,
    seed=0,
)
STEPS = 5  # of an epoch, at the tests' batch size


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
        kind="tabular",
        classes=list("abcd"),
        carved=True,
        column_groups=[4, 6],
        numbers=10,
        sha256="0",
        card={},
    )


OURS = {"views": {"masking": [0.2, 0.2]}, "encoder": {"width": 1 / 64}, "batch_size": 40, "epochs": 8}
OURS |= {"learning_rate": 0.5, "knn_every": 4}


def settings(method, mix="imix", **changes):
    own = OWN[method] | ({"queue": 60} if method == "moco" else {})
    cell = {"mix": mix, "alpha": None if mix == "none" else 1.0}
    return domains.training_class(method, "tabular").model_validate(BASE | own | OURS | cell | changes)


def new(method, mix="imix", seed=0, **changes):
    return pretraining.Training(dataset(), method, settings(method, mix, **changes), seed)


def train(method, mix="imix", seed=0, **changes):
    training = new(method, mix, seed, **changes)
    pretraining.run(training, "test")
    return training


def judge(training):
    return evaluate(training.method.encoder, training.dataset, training.settings.views, PROBE, 0)


@pytest.fixture
def work(tmp_path):
    """An entry of the store, whose states the tests save and load."""
    return store.entry("trainings", "a" * 24)


def run(training, work, signals=(), save_seconds=0):
    """Train as a stage does, saving after every step."""
    pretraining.run(training, "test", lambda *state: store.save_state(work, *state), save_seconds, signals=signals)


def resumed(training, work):
    training.load_state(*store.load_state(work))
    assert training.epoch or training.step
    run(training, work)
    return training


@pytest.mark.parametrize("method", OWN)
@pytest.mark.parametrize("mix", ["none", "imix"])
def test_learns(method, mix):
    training = train(method, mix, epochs=30)
    losses = [line["loss"] for line in training.history]
    assert losses[-1] < losses[0] - 0.1
    if method == "npair" and mix == "none":
        assert losses[-1] < math.log(40)  # below chance: log of the contrast set
    metrics = judge(training)
    assert metrics["linear_accuracy"] > 80 and metrics["knn_accuracy"] > 80  # chance is 25
    assert metrics["linear_accuracy_test_selected"] >= metrics["linear_accuracy"]


@pytest.mark.parametrize("method", OWN)
def test_same_seed_same_training_other_seed_another(method):
    one, other = train(method), train(method, seed=1)
    assert_same(one, train(method))
    assert pretraining.history_csv(one.history) != pretraining.history_csv(other.history)


def assert_same(one, two):
    states = (one.state(), two.state())
    assert states[0][0].keys() == states[1][0].keys()
    for name, tensor in states[0][0].items():
        assert torch.equal(tensor, states[1][0][name]), name
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


CELLS = [
    *(
        (method, mix, augmentation)
        for method in OWN
        for mix in ("none", "imix")
        for augmentation in ("augmented", "clean")
    )
]


@pytest.mark.parametrize("method,mix,augmentation", CELLS)
def test_interrupted_equals_uninterrupted(method, mix, augmentation, work):
    """Killed after exactly one step, in the middle of an epoch, and at an epoch's end."""
    changes = {"augmentation": augmentation, "epochs": 3}
    whole = train(method, mix, **changes)
    for step in (1, STEPS + 2, 2 * STEPS):
        with pytest.raises(KeyboardInterrupt):
            run(interrupt(new(method, mix, **changes), step, dies), work)
        assert_same(resumed(new(method, mix, **changes), work), whole)
    assert [path.name for path in work.folder.iterdir()] == ["state"]


@pytest.mark.parametrize(
    "changes",
    [
        {"momentum": 0.0},
        {"groups": 2},
        {"symmetric": True},
        {"inputmix": 2},
        {"mix_depth": "hidden"},
        {"mix_inputs": "both"},
        {"fraction": 0.5},
        {"weight_decay": 0.01, "warmup_epochs": 1, "schedule": "step", "milestones": [2]},
        {"precision": "bfloat16"},
    ],
)
def test_every_kind_of_training_continues_bit_for_bit(changes, work):
    changes = {"epochs": 3} | changes
    with pytest.raises(KeyboardInterrupt):
        run(interrupt(new("npair", **changes), 4, dies), work)
    assert_same(resumed(new("npair", **changes), work), train("npair", **changes))


def test_a_residual_network_continues_bit_for_bit(work):
    """Its weights are channels last, a saved state is not."""
    whole, killed, resumed = (test_device.training("mnist", "npair") for _ in range(3))
    for training in (whole, killed):
        training.run_step()
    store.save_state(work, *killed.state())
    resumed.load_state(*store.load_state(work))
    for training in (whole, resumed):
        training.run_step()
    assert_same(whole, resumed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_step_and_saves(number, work):
    before = signal.getsignal(number)
    with noted_signals() as signals, pytest.raises(Stopped, match="test: stopped after epoch 1, step 3") as stopped:
        run(interrupt(new("moco"), 7, lambda: os.kill(os.getpid(), number)), work, signals, math.inf)
    assert stopped.value.signal == number and signal.getsignal(number) == before
    assert_same(resumed(new("moco"), work), train("moco"))


def test_a_collapsed_encoder_is_flagged(capsys):
    training = new("npair", epochs=1, learning_rate=0.0001)
    original = training.method.encoder.forward
    training.method.encoder.forward = lambda inputs: original(inputs) * 1e-6 + 1
    pretraining.run(training, "test")
    assert training.history[-1]["collapsed"] == 1 and "collapsed: after epoch 1" in capsys.readouterr().err
    assert judge(training)["collapsed"] == 1
    assert train("npair").history[-1]["collapsed"] == 0


def test_a_state_is_exact(work):
    one, other = new("moco"), new("moco", seed=1)
    for _ in range(7):
        one.run_step()
    one.history[0] |= {"loss": 0.1 + 0.2, "feature_std": math.nan, "tiny": 5e-324}
    store.save_state(work, *one.state())
    other.load_state(*store.load_state(work))
    (tensors, facts), (again, same) = one.state(), other.state()
    assert facts["history"] and repr(facts) == repr(same) and tensors.keys() == again.keys()
    assert all(torch.equal(tensors[name], again[name]) and tensors[name].dtype == again[name].dtype for name in tensors)


def test_seconds_of_a_continued_training_are_those_of_both_processes(work):
    began = time.monotonic()
    with pytest.raises(Stopped):
        signals = []
        run(interrupt(new("npair"), 7, lambda: (time.sleep(0.3), signals.append(signal.SIGTERM))), work, signals)
    assert 0.3 < resumed(new("npair"), work).seconds < time.monotonic() - began


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_step_is_the_formula(momentum):
    """v <- m v + g + wd p, p <- p - rate v; on every parameter that is trained."""
    training = new("moco", momentum=momentum, weight_decay=0.01, warmup_epochs=1)
    parameters = training.optimiser.param_groups[0]["params"]
    keys = {id(p) for p in training.method.keys.parameters()}
    assert len(parameters) + len(keys) == len(list(training.method.parameters())) and not keys & set(
        map(id, parameters)
    )
    velocities, gradients = [torch.zeros_like(p) for p in parameters], []
    step = training.optimiser.step

    def watched():
        gradients[:] = [p.grad.clone() for p in parameters]
        step()

    training.optimiser.step = watched
    for number in range(7):
        before = [p.detach().clone() for p in parameters]
        training.run_step()
        rate = pretraining.learning_rate(number, STEPS, training.settings)
        velocities = [momentum * v + g + 0.01 * p for v, g, p in zip(velocities, gradients, before, strict=True)]
        for p, v, old in zip(parameters, velocities, before, strict=True):
            assert torch.allclose(p, old - rate * v, atol=1e-6)
    assert all(p.grad is None for p in parameters) and training.optimiser.defaults["fused"]


@pytest.mark.parametrize("method", OWN)
def test_training_in_bfloat16_is_near_float32(method):
    exact, rough = train(method, epochs=1), train(method, epochs=1, precision="bfloat16")  # later, trainings part
    assert all(p.dtype == torch.float32 for p in rough.method.parameters())
    losses = [[line["loss"] for line in training.history] for training in (exact, rough)]
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.05)


@pytest.mark.parametrize("precision,products", [("float32", "ieee"), ("tf32", "tf32"), ("bfloat16", "ieee")])
def test_precision_is_set_for_every_backend(precision, products):
    backends = torch.backends
    cudnn, mkldnn = backends.cudnn, backends.mkldnn
    parts = (backends, backends.cuda.matmul, cudnn, cudnn.conv, cudnn.rnn, mkldnn, mkldnn.conv, mkldnn.matmul)
    with runtime.kept_precision():
        for part in parts:  # other code of the process may have set any of them
            part.fp32_precision = "ieee" if products == "tf32" else "tf32"
        before = [part.fp32_precision for part in parts]
        with runtime.kept_precision():
            new("npair", precision=precision)
            assert {part.fp32_precision for part in parts} == {products}
            runtime.configure()
            assert {part.fp32_precision for part in parts} == {"ieee"}
        assert [part.fp32_precision for part in parts] == before


def test_another_identity_is_another_entry():
    """A training continues only what has its settings, seed, code, data, and rounds as it does."""
    cpu, raw = torch.device("cpu"), settings("npair").model_dump()
    mine = {"method": "npair", "raw": raw, "code": "c", "seed": 0, "sha256": "d", "device": cpu}
    others = {"method": "byol", "raw": raw | {"epochs": 9}, "code": "C", "seed": 1, "sha256": "D"}
    keys = {jobs.training_key(**mine)} | {jobs.training_key(**mine | {key: value}) for key, value in others.items()}
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    keys.add(jobs.training_key(**mine))
    torch.set_num_threads(threads)
    assert len(keys) == 2 + len(others) and jobs.training_key(**mine) in keys
    assert all(store.KEY.fullmatch(key) for key in keys)


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
    rates = [pretraining.learning_rate(epoch * 10, 10, steps) for epoch in (0, 299, 300, 399, 400)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01])


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
        for _ in range(2 * training.steps):
            training.run_step()
        seen.append(torch.stack(calls))
    assert torch.equal(*seen)


def test_inputmix_comes_before_imix_on_both_views():
    training = pretraining.Training(dataset(), "npair", settings("npair", inputmix=2, augmentation="clean"), 0)
    clean, views = training.views.clean(training.rows[:40]), []
    training._loss = lambda *pair: views.extend(pair)
    training.step_loss(torch.arange(40))
    assert len(views) == 2
    assert not any(torch.equal(a, b) for a, b in itertools.combinations([*views, clean], 2))


def test_without_augmentation_both_views_are_the_clean_rows():
    training = pretraining.Training(dataset(), "npair", settings("npair", augmentation="clean"), 0)
    views, rows = [], torch.arange(60, 100)
    training._loss = lambda *pair: views.extend(pair)
    training.step_loss(rows)
    assert len(views) == 2 and all(torch.equal(view, training.views.clean(training.rows[rows])) for view in views)


def test_without_augmentation_rows_are_computed_once():
    counts = []
    for epochs in (1, 3):
        training = new("npair", augmentation="clean", epochs=epochs, knn_every=1000)
        clean, calls = training.views.clean, []
        training.views.clean = lambda rows, clean=clean, calls=calls: calls.append(1) or clean(rows)
        pretraining.run(training, "test")
        counts.append(len(calls))
    assert counts[0] == counts[1] <= 4  # those of the monitor


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
    columns = anchors.split(one.method.encoder.column_groups, 1)
    plain = torch.cat([layer(c) for layer, c in zip(one.method.encoder.inputs, columns, strict=True)], 1)
    expected = mixing.blend(plain, plain[partner], lam)
    assert torch.allclose(torch.cat([block[: 40 // groups] for block in hidden]), expected, atol=1e-6)
    assert training.step_loss(torch.arange(40)).isfinite()


def test_supervised_training_is_cross_entropy_and_never_sees_validation_labels():
    training = pretraining.Training(dataset(), "supervised", settings("supervised", "none"), 0)
    assert torch.equal(training.rows, dataset().fit) and torch.equal(training.labels, dataset().fit_labels)
    assert len(training.rows) == 160 < len(dataset().train)
    rows = torch.arange(40)
    view = training.views(training.rows[rows], 0, pretraining.streams(0).views)
    expected = torch.nn.functional.cross_entropy(copy.deepcopy(training.method.network())(view), training.labels[rows])
    assert float(training.step_loss(rows).detach()) == pytest.approx(float(expected.detach()), rel=1e-6)


def test_the_key_encoder_and_the_statistics_change_as_they_should_in_one_step():
    training = new("byol", ema=0.5)
    keys = [p.clone() for p in training.method.keys.parameters()]
    training.run_step()  # follows before the step: of equal networks, nothing moves
    assert all(torch.equal(a, b) for a, b in zip(keys, training.method.keys.parameters(), strict=True))
    training.run_step()
    assert not all(torch.equal(a, b) for a, b in zip(keys, training.method.keys.parameters(), strict=True))


def test_mixed_supervised_training_is_cross_entropy_with_mixed_labels():
    training = pretraining.Training(dataset(), "supervised", settings("supervised"), 0)
    rows, other = torch.arange(40), pretraining.streams(0)
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


def test_fewer_rows_than_a_batch_are_refused():
    for changes, rows in (({"batch_size": 4000, "groups": 1}, 200), ({"batch_size": 160, "fraction": 0.5}, 100)):
        with pytest.raises(UserError, match=f"must be at most the {rows} training rows") as error:
            new("npair", **changes)
        assert f"batch_size = {changes['batch_size']}" in str(error.value) and "\n" not in str(error.value)


def test_a_loss_that_is_not_finite_ends_it_at_once(work):
    training, steps = new("npair"), []
    original, step = training.step_loss, training.optimiser.step
    training.step_loss = lambda rows: original(rows) * (math.nan if len(steps) == 7 else 1)
    training.optimiser.step = lambda: (steps.append(1), step())
    with pytest.raises(UserError, match=r"^test: the loss is not finite at step 8 \(epoch 2\), at a learning rate of"):
        run(training, work)
    assert len(steps) == 8
    tensors, facts = store.load_state(work)
    assert (facts["epoch"], facts["step"]) == (1, 2)
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_a_learning_rate_that_is_far_too_high_is_said_to_be():
    steep = settings("npair").model_copy(update={"learning_rate": 1e18})
    with pytest.raises(UserError, match=r"not finite .* lower learning_rate"):
        pretraining.run(pretraining.Training(dataset(), "npair", steep, 0), "test")


def test_weights_that_are_not_finite_are_neither_saved_nor_evaluated(work):
    """The loss is computed before the step that spoils them."""
    training, count = new("npair", epochs=1), itertools.count()
    step, parameter = training.optimiser.step, next(training.method.parameters())

    def spoils():
        step()
        if next(count) == 2:
            parameter.data.fill_(math.inf)

    training.optimiser.step = spoils
    with pytest.raises(UserError, match=r"test: weights are not finite at step 3 \(epoch 1\)"):
        run(training, work)
    tensors, facts = store.load_state(work)
    assert facts["step"] == 2 and all(tensor.isfinite().all() for tensor in tensors.values())
    with pytest.raises(UserError, match="the encoder's features are not finite"):
        judge(training)
