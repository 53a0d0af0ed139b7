"""The plan counts what trainings and evaluations really do, and leaves out what DVC and the store have."""

import json
import math
import shutil
import subprocess
import sys
import types
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from dvc.repo import Repo
from torch.utils.flop_counter import FlopCounterMode

from imix import __main__ as command_line
from imix import domains, evaluation, identity, jobs, paths, plugins, pretraining, sources, store
from imix.commands import explain
from imix.commands import plan as command
from imix.console import plain
from imix.errors import UserError
from imix.paths import Cell
from imix.planning import costs, done, study, timing
from imix.progress import silent
from imix.settings import loading, merging, overrides, resolved
from tests.conftest import ROOT

CPU = torch.device("cpu")
SMALL = (
    "grid.datasets=[diamonds]", "grid.methods=[npair]", "grid.mixes=[none]", "grid.augmentation=[augmented]",
    "grid.seeds=[0,1]", "ablations.run=[]",
)  # fmt: skip


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("IMIX_STORE", str(tmp_path / "store"))


@pytest.fixture(scope="module")
def default():
    return loading.load(ROOT / "params.yaml")


def load(folder, *changes):
    folder.mkdir(exist_ok=True)
    return overrides.changed(folder, list(changes))


def plan(params, rate=1e13, recorded=None):
    return study.priced(params, resolved.resolved(params), CPU, rate, recorded)


def counted(params, cell, **changes):
    """Settings, form, encoder, and a step's operations and bytes."""
    settings, found = merging.resolve(params, cell).model_copy(update=changes), merging.data(params, cell.dataset)
    form, kind, half = found.form, found.module.KIND, settings.precision == "bfloat16"
    encoder = costs.encoding(kind, settings.encoder, form.shape, form.column_groups, half)
    return settings, form, encoder, *costs.step_cost(cell.method, settings, encoder, form.classes)


def convolutions(width, side, stride):
    """(inputs, outputs, kernel, side of the output) of ResNet-10, on grey images."""
    side = math.ceil(side / stride)
    found = [(1, width, 3, side), (width, width, 3, side), (width, width, 3, side)]
    for small in (width, 2 * width, 4 * width):
        side, large = math.ceil(side / 2), 2 * small
        found += [(small, large, 3, side), (large, large, 3, side), (small, large, 1, side)]
    return found


@pytest.mark.parametrize(
    "method,with_gradient,without", [("npair", 2, 0), ("moco", 1, 1), ("byol", 1, 1), ("supervised", 1, 0)]
)
def test_operations_of_a_resnet_step_by_hand(default, method, with_gradient, without):
    settings, form, encoder, operations, _ = counted(default, Cell("mnist", "augmented", method, "none"))
    size, width, net = settings.batch_size, settings.embedding, settings.encoder
    features = 8 * net.width
    layers = convolutions(net.width, form.shape[1], net.stem_stride)
    products = [a * b * k * k * side * side for a, b, k, side in layers]
    forward = 2 * sum(products)
    assert encoder.forward == forward and encoder.features == features
    assert encoder.both == 3 * forward - 2 * products[0]  # nobody needs the gradient of the images
    head = features * form.classes if method == "supervised" else features * (features + width)
    head += 2 * features * width if method == "byol" else 0  # the predictor
    keys = forward + 2 * features * (features + width)
    expected = size * with_gradient * (encoder.both + 6 * head) + size * without * keys
    logits = {"npair": 3 * size, "moco": 2 * (size + getattr(settings, "queue", 0))}.get(method, 0)
    assert operations == expected + 2 * size * logits * width


@pytest.mark.parametrize("method", ["npair", "moco", "byol", "supervised"])
@pytest.mark.parametrize("name", ["mnist", "diamonds", "spoken"])
def test_a_real_step_does_and_keeps_what_is_planned(default, name, method, monkeypatch):
    settings, form, _, operations, memory = counted(default, Cell(name, "clean", method, "imix"), batch_size=20)
    kind = merging.data(default, name).module.KIND
    training = pretraining.Training(timing.noise(kind, form, 20, CPU), method, settings, 0)
    own = {z.untyped_storage().data_ptr() for z in training.method.state_dict().values()}
    own |= {z.untyped_storage().data_ptr() for z in training.method.parameters()}
    kept = {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(note, lambda z: z):
        training.step_loss(torch.arange(20)).backward()
    assert counter.get_total_flops() == operations
    weights = sum(z.nbytes for z in training.method.state_dict().values())
    weights += 2 * sum(z.nbytes for z in training.method.parameters() if z.requires_grad)
    real = weights + sum(storage.nbytes() for place, storage in kept.items() if place not in own)
    assert memory == pytest.approx(real, rel=0.06)  # features are counted with the encoder and with its head


def test_bfloat16_groups_and_both_directions(default):
    cell = Cell("mnist", "augmented", "npair", "none")
    _, _, encoder, operations, memory = counted(default, cell)
    _, _, half_encoder, half_operations, half_memory = counted(default, cell, precision="bfloat16")
    assert operations == half_operations and 0.45 < half_encoder.kept / encoder.kept < 0.8 and half_memory < memory
    settings, *_, grouped, _ = counted(default, cell, groups=2)
    assert operations - grouped == 2 * 3 * settings.batch_size**2 // 2 * settings.embedding  # half the logits
    *_, both, twice = counted(default, cell, symmetric=True)
    assert both == 2 * operations and memory < twice < 2 * memory


def test_what_changes_no_operation_is_counted_once(default, monkeypatch):
    cell = Cell("diamonds", "augmented", "npair", "none")
    *_, first, _ = counted(default, cell)
    monkeypatch.setattr(costs, "counted", None)
    assert counted(default, cell._replace(mix="imix"), epochs=9, learning_rate=0.1)[3] == first
    with pytest.raises(TypeError):
        counted(default, cell, batch_size=44)


@pytest.mark.parametrize("carved", [True, False])
def test_operations_of_a_real_evaluation(default, carved):
    found, settings = merging.data(default, "diamonds"), merging.evaluation_settings(default, "diamonds")
    domain = domains.domain_class("tabular").model_validate({k: settings[k] for k in domains.Domain.model_fields})
    probe = evaluation.Probe.model_validate(settings["probe"]).model_copy(update={"epochs": 3, "milestones": []})
    form = found.form._replace(train=150 if carved else 100, validation=50, test=300, carved=carved)
    rows = timing.noise("tabular", form, form.train, CPU)
    parts = {"fit": form.fit, "validation": 50, "test": 300}
    parts = {name: timing.noise("tabular", form, count, CPU).train for name, count in parts.items()}
    labels = {f"{name}_labels": torch.arange(len(part)) % form.classes for name, part in parts.items()}
    rows = replace(rows, **parts, **labels, carved=carved)
    if carved:
        rows = replace(
            rows, train=torch.cat([rows.fit, rows.validation]), train_labels=torch.arange(150) % form.classes
        )
    encoder = domains.make_encoder("tabular", domain.encoder, rows)
    with FlopCounterMode(display=False) as counter:
        evaluation.evaluate(encoder, rows, domain.views, probe, 0)
    coded = costs.encoding("tabular", domain.encoder, form.shape, form.column_groups, False)
    operations, memory = costs.evaluation_cost(coded, form, probe)
    # the counter leaves out products in place, which the probes' gradients are; the plan, the Fréchet distance
    sizes = [form.fit, 5 * 1, 5 * 2] + [form.train] * carved  # of each of the 5 classes, 1 % and 10 % of 20
    gradient = 2 * (coded.features + 1) * form.classes * len(probe.rates) * probe.epochs * sum(sizes)
    assert operations == counter.get_total_flops() + gradient - 2 * min(form.train, coded.features) * coded.features**2
    assert memory > 4 * coded.features * (form.train + form.test)


@pytest.mark.parametrize("method,fraction", [("npair", 1.0), ("npair", 0.5), ("npair", 0.2), ("supervised", 1.0)])
def test_planned_steps_are_those_of_a_real_training(default, method, fraction, monkeypatch):
    cell = Cell("diamonds", "augmented", method, "imix")
    settings, form, encoder, operations, memory = counted(default, cell, fraction=fraction, epochs=3, warmup_epochs=0)
    rows = timing.noise("tabular", form, form.train, CPU)
    if method == "supervised":
        rows = replace(rows, fit=rows.train[: form.fit], fit_labels=rows.train_labels[: form.fit])
    training, steps = pretraining.Training(rows, method, settings, 0), []
    monkeypatch.setattr(training.optimiser, "step", lambda inner=training.optimiser.step: steps.append(1) or inner())
    pretraining.run(training, "test")
    planned, *_ = study.training_cost(
        method, settings, merging.data(default, "diamonds"), encoder, (operations, memory)
    )
    assert planned == len(steps) == training.steps * 3


def test_the_papers_grid_without_computing_it(tmp_path):
    params = load(
        tmp_path / "a", "grid.datasets=[cifar10]", "grid.methods=[moco]", "grid.seeds=[0,1]", "ablations.run=[]",
        "grid.augmentation=[augmented]",
    )  # fmt: skip
    found = plan(params)
    plain, mixed = (next(j for j in found if j.group == "pretrain" and j.cell.mix == mix) for mix in ("none", "imix"))
    labelled = next(j for j in found if j.group == "supervised" and j.trains)
    assert labelled.steps == 2000 * (45_000 // 256)  # never the validation rows
    assert plain.steps == 1000 * (50_000 // 256) and mixed.steps == 4 * plain.steps
    # ResNet-50 at 32 x 32 has 1.3e9 products; one view with gradient (3), one without (1); kNN every 50 epochs
    products = 1.3e9 * (plain.steps * 256 * 4 + 1000 / 50 * 50_000)
    assert plain.operations == pytest.approx(2 * products, rel=0.02) and plain.seconds == plain.operations / 1e13
    evaluated = next(j for j in found if j.group == "evaluate")  # rows, ten augmented copies of the training rows
    assert evaluated.operations == pytest.approx(2 * 1.3e9 * (11 * 50_000 + 10_000), rel=0.02)
    assert 4 * 2048 * 11 * 50_000 < evaluated.memory < 9e9 and 5e9 < plain.memory < 9e9
    counts = {group: len({j.output for j in found if j.group == group}) for group in {j.group for j in found}}
    assert counts == {"pretrain": 2, "evaluate": 2, "supervised": 1, "baseline": 1}
    assert sum(j.trains for j in found) == 6 and all(j.steps == 0 for j in found if not j.trains)


def test_ablations_are_priced_with_what_they_change_and_what_the_grid_has_is_not_paid_twice(tmp_path):
    params = load(
        tmp_path / "a",
        *SMALL[:-1],
        "ablations.run=[data_size]",
        "ablations.augmentation=[augmented]",
        "ablations.datasets=[diamonds]",
        "ablations.seeds=[0,5]",
    )
    found = plan(params)
    ablated = [j for j in found if j.group == "ablate" and j.trains and j.cell.mix == "none"]
    steps = sorted((j.steps, j.seed) for j in ablated)
    # 1,500 rows in batches of 64; fractions 0.2 and 0.5; the unchanged one of seed 0 is the grid's
    assert steps == sorted([(40, 0), (40, 5), (110, 0), (110, 5), (230, 5), (200, 0), (200, 5), (220, 0), (220, 5)])
    assert sum(j.trains for j in found) == 4 + 9 + 10  # grid and supervised; plain and i-Mix variants
    everything = plan(
        load(
            tmp_path / "b",
            *SMALL[:-1],
            "ablations.run=[data_size]",
            "ablations.augmentation=[augmented]",
            "ablations.datasets=[diamonds]",
            "ablations.seeds=[7]",
        )
    )
    assert sum(j.trains for j in everything) == 4 + 10


def test_transfers_are_priced_at_the_target(tmp_path):
    params = load(
        tmp_path / "a", *SMALL[1:], "grid.datasets=[cifar10,cifar100]",
        "transfer.pairs=[{pretrained_on: cifar10, probed_on: cifar100}]",
    )  # fmt: skip
    moved = [j for j in plan(params) if j.group == "transfer"]
    assert {j.output for j in moved} == {Path("data/metrics/cifar100/from_cifar10/augmented/npair/none")} and len(
        moved
    ) == 2
    own = next(j for j in plan(params) if j.group == "evaluate" and j.dataset == "cifar100")
    assert moved[0].operations == own.operations and moved[0].memory == own.memory


# --- what is done


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A folder with rows, in which one of two seeds is trained through imix.jobs."""
    params = load(
        tmp_path / "a",
        *SMALL,
        "++recipe.diamonds.epochs=2",
        "++recipe.diamonds.warmup_epochs=0",
        "++recipe.diamonds.knn_every=1",
    )
    monkeypatch.chdir(tmp_path)
    form, rng = merging.data(params, "diamonds").form, np.random.default_rng(0)
    counts = {"train": form.fit, "validation": form.validation, "test": form.test}
    inputs = {name: rng.standard_normal((count, 22), np.float32) for name, count in counts.items()}
    labels = {name: np.arange(count) % form.classes for name, count in counts.items()}
    zeros, classes = np.zeros(7, np.float32), plugins.find("datasets", "diamonds").CLASSES
    splits = sources.Splits(inputs, labels, classes, zeros, zeros + 1, True, form.column_groups, 7)
    sources.save(splits, paths.tensors("diamonds"), "tabular", "noise", {})
    cell = Cell("diamonds", "augmented", "npair", "none")
    block = resolved.resolved(params)[cell.path.with_suffix(".json")]
    jobs.train(0, silent, cell, json.loads(json.dumps(block["settings"])), block["code"]["training"], 0)
    return params


def test_a_training_that_the_store_has_is_done(trained, tmp_path):
    found = [j for j in plan(trained) if j.group == "pretrain"]
    assert [(j.seed, j.done) for j in found] == [(0, True), (1, False)] and found[0].steps == 46
    changed = trained.model_copy(update={"defaults": trained.defaults | {"momentum": 0.8}})
    assert not any(j.done for j in plan(changed))
    (paths.tensors("diamonds") / "card.json").unlink()  # other rows may come
    assert not any(j.done for j in plan(trained))
    assert len(store.entries()) == 1


def test_a_variant_that_the_store_has_is_done(trained, tmp_path):
    ablated = trained.model_copy(update={"ablations": trained.ablations.model_copy(
        update={"run": ["contrast", "data_size"], "datasets": ["diamonds"], "seeds": [0]})})  # fmt: skip
    same = [j for j in plan(ablated) if j.trains and j.done]
    assert len(same) == 1 and same[0].group == "pretrain"  # the unchanged variant is the same work


MADE = {
    "settings": ("echo s", ["params.yaml", "imix"], ["data/settings"]),
    "preprocess": ("mkdir -p data/x/tensors; cp data/settings/x/rows.json data/x/tensors/card.json",
                   ["data/settings/x/rows.json"], ["data/x/tensors"]),
    "pretrain": ("mkdir -p data/encoders/x; cp data/settings/x/cell.json data/encoders/x/0.safetensors",
                 ["data/settings/x/cell.json", "data/x/tensors"], ["data/encoders/x"]),
    "evaluate": ("mkdir -p data/metrics/x; cp data/settings/x/evaluate.json data/metrics/x/0.json",
                 ["data/settings/x/evaluate.json", "data/x/tensors", "data/encoders/x"], ["data/metrics/x"]),
}  # fmt: skip
OUTPUTS = [Path(made[2][0]) for made in MADE.values()]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A made-up DVC repository whose stages have run; as in dvc.yaml, `settings` writes what the others depend on."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "imix").mkdir()
    (folder / "imix" / "code.py").write_text("pass\n")
    (folder / "params.yaml").write_text("a: 1\n")
    names = ("rows", "cell", "evaluate")
    write = "; ".join(f"cp -r {folder}/source/{name}.json data/settings/x" for name in names)
    made = MADE | {"settings": (f"mkdir -p data/settings/x; {write}", *MADE["settings"][1:])}
    stages = {name: {"cmd": cmd, "deps": deps, "outs": outs} for name, (cmd, deps, outs) in made.items()}
    (folder / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    for name in names:
        done.write_json(folder / "source" / f"{name}.json", {"settings": name})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with Repo.init(no_scm=True) as repo:
            repo.reproduce()
    return folder


def test_reasons_name_what_has_changed(repository, tmp_path, monkeypatch):
    monkeypatch.chdir(repository)
    files = {Path("x", f"{name}.json"): {"settings": name} for name in ("rows", "cell")}
    files[Path("x", "evaluate.json")] = {"settings": {"ema": 2}}
    (tmp_path / "params.yaml").write_text("a: 1\n")
    record = done.Recorded(tmp_path, files)
    names = [record.makers[output.as_posix()].name for output in OUTPUTS]
    assert list(explain.stale(names[1], record, files)) == []
    assert list(explain.stale(names[3], record, files)) == [
        'evaluate.json: settings was "evaluate", is nothing',
        "evaluate.json: ema was nothing, is 2",
    ]
    (tmp_path / "later").mkdir()
    shutil.copy(tmp_path / "params.yaml", tmp_path / "later")
    files[Path("x", "cell.json")] = {"settings": "other"}
    record = done.Recorded(tmp_path / "later", files)
    assert list(explain.stale(names[3], record, files))[-1] == f"data/encoders/x: {names[2]} before it"
    with pytest.raises(UserError, match=r"no stage 'cel'.*`dvc stage list` has all"):
        list(explain.stale("cel", record, files))


def left(tmp_path, changes=None, params="a: 1\n"):
    """The outputs that are not done with some of the settings changed."""
    files = {Path("x", f"{name}.json"): {"settings": name} for name in ("rows", "cell", "evaluate")}
    folder = tmp_path / "planned, #1"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "params.yaml").write_text(params)
    record = done.Recorded(folder, files | {Path("x", f"{k}.json"): v for k, v in (changes or {}).items()})
    return [output for output in OUTPUTS if not record.done(output.as_posix())]


def test_what_dvc_has_is_done(repository, tmp_path, monkeypatch):
    monkeypatch.chdir(repository)
    assert left(tmp_path) == []
    assert left(tmp_path, params="a: 2\n") == OUTPUTS[:1]  # other parameters, the same settings
    assert left(tmp_path, {"evaluate": {"settings": 2}}) == OUTPUTS[3:]
    assert left(tmp_path, {"cell": {"settings": 2}}) == OUTPUTS[2:]
    assert left(tmp_path, {"rows": {"settings": 2}}) == OUTPUTS[1:]
    code = repository / "imix" / "code.py"
    code.write_text("1\n")
    assert left(tmp_path) == OUTPUTS[:1]
    code.write_text("pass\n")
    shutil.move(repository / "data", tmp_path / "data")  # DVC has it in its cache
    assert left(tmp_path) == []
    shutil.move(repository / ".dvc" / "cache", tmp_path / "cache")
    assert left(tmp_path) == OUTPUTS
    shutil.move(tmp_path / "cache", repository / ".dvc" / "cache")
    graph = (repository / "dvc.yaml").read_text()
    (repository / "dvc.yaml").write_text(graph.replace("cp data/settings/x/cell.json", "cp  data/settings/x/cell.json"))
    assert left(tmp_path) == OUTPUTS[2:]  # another command
    (repository / "dvc.yaml").write_text(graph)
    lock = (repository / "dvc.lock").read_text()
    (repository / "dvc.lock").unlink()
    assert left(tmp_path) == OUTPUTS
    (repository / "dvc.lock").write_text(lock)
    assert left(tmp_path) == []


def test_a_broken_dvc_file_is_one_line(repository, tmp_path, monkeypatch):
    monkeypatch.chdir(repository)
    graph = (repository / "dvc.yaml").read_text()
    (repository / "dvc.yaml").write_text("stages: [")
    try:
        with pytest.raises(UserError, match=r"^DVC: .*dvc\.yaml.*") as error:
            command.recorded(tmp_path, {})
    finally:
        (repository / "dvc.yaml").write_text(graph)
    assert "\n" not in str(error.value) and str(tmp_path) not in str(error.value)


def test_outside_of_dvc_nothing_is_recorded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command.recorded(tmp_path, {}) is None


# --- -S


CHANGES = [
    "grid.seeds=[0,7]", "+recipe.mnist.npair={epochs: 7}", "++recipe.diamonds.epochs=11",
    "++recipe.spoken.queue=200",
    "~recipe.diamonds.ema", "defaults.alpha=2", "data.mnist.rows.validation=0.5", "grid.name='none_'",
    "ablations.run=[]",
]  # fmt: skip


def test_changes_are_those_of_dvc_exp_run(tmp_path, monkeypatch):
    repo = tmp_path / "repo"
    repo.mkdir()
    shutil.copy(ROOT / "params.yaml", repo)
    (repo / "dvc.yaml").write_text(
        'stages: {copy: {cmd: "cp params.yaml seen.yaml", deps: [params.yaml], outs: [seen.yaml]}}'
    )
    options = [part for change in CHANGES for part in ("-S", change)]
    mail = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for run in (
        ["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"], ["git", "add", "-A"],
        ["git", *mail, "commit", "-qm", "a"], [sys.executable, "-m", "dvc", "exp", "run", "-q", *options],
    ):  # fmt: skip
        subprocess.run(run, cwd=repo, check=True, capture_output=True, env=dict(command_environment()))
    ours = load(tmp_path / "with, #comma", *CHANGES)
    assert ours == loading.load(repo / "seen.yaml")
    assert ours.grid.seeds == [0, 7] and ours.recipe["mnist"]["npair"] == {"epochs": 7}
    assert ours.recipe["diamonds"]["epochs"] == 11 and "ema" not in ours.recipe["diamonds"]


def command_environment():
    import os

    names = {f"GIT_{who}_{what}": "a" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return os.environ | names | {"DVC_NO_ANALYTICS": "1"}


@pytest.mark.parametrize(
    "change,words",
    [
        ("grid.seeds=1", "params.yaml: grid.seeds = 1: must be a list"),
        ("grid.seeds=[0,", "-S grid.seeds=[0,: "),
        ("girds.seeds=1", "-S girds.seeds=1: "),
        ("grid.seeds.first=1", "-S grid.seeds.first=1: "),
        ("grid.seed=[1]", "-S grid.seed=[1]: "),
        ("+grid.seed=[1]", "params.yaml: grid.seed = [1]: unknown key; did you mean 'seeds'"),
        ("grid.seeds", "must be key=value"),
        ("grid.name=a,b", "several values"),
        ("other.yaml:a=1", "another file"),
        ("~grid", "params.yaml: grid: is missing"),
        (
            "+recipe.mnist.npair={batch_size: 1001}",
            "npair.batch_size = 1001: must be at most the 1000 training rows of mnist",
        ),
    ],
)
def test_a_mistake_in_a_change_is_one_line(tmp_path, change, words):
    with pytest.raises(UserError) as error:
        load(tmp_path / "a", change)
    assert words in str(error.value) and "\n" not in str(error.value) and str(tmp_path) not in str(error.value)


# --- rates


def test_rates_are_timed_once_per_training_and_kept(tmp_path, monkeypatch):
    params, timed = load(tmp_path / "a", *SMALL[:1], *SMALL[3:], "grid.methods=[npair,moco]"), []
    monkeypatch.setattr(timing, "step_seconds", lambda training: timed.append(training.settings) or 0.5)
    for _ in range(2):
        found = plan(params, rate=None)
        assert all(j.seconds >= 0.5 * j.steps for j in found if j.trains)
    assert len(timed) == 5  # two methods, plain and mixed, and supervised training
    plan(
        load(tmp_path / "b", *SMALL[:1], *SMALL[3:], "grid.methods=[npair,moco]", "++recipe.diamonds.epochs=99"),
        rate=None,
    )
    assert len(timed) == 5
    plan(
        load(tmp_path / "c", *SMALL[:1], *SMALL[3:], "grid.methods=[npair,moco]", "recipe.diamonds.batch_size=50"),
        rate=None,
    )
    assert len(timed) == 9  # training with labels has a batch size of its own
    path = tmp_path / "store" / "timings.json"
    assert len(json.loads(path.read_text())) == len(timed)
    for damaged in ("", "[]", "{", "1", '{"a": "b"}'):
        path.write_text(damaged)
        plan(params, rate=None)
        assert len(json.loads(path.read_text())) == 5 + damaged.count("a")


@pytest.mark.parametrize("name", ["mnist", "diamonds", "spoken", "cifar10", "covtype"])
def test_every_kind_of_row_can_be_timed(default, name, monkeypatch):
    monkeypatch.setattr(timing, "SECONDS", 0)
    settings, form, _, operations, _ = counted(default, Cell(name, "augmented", "moco", "imix"))
    kind, sizes = merging.data(default, name).module.KIND, []
    inner = timing.step_seconds

    def step_seconds(training):
        sizes.append(training.settings.batch_size)
        inner(training)
        return 0.5

    monkeypatch.setattr(timing, "step_seconds", step_seconds)
    monkeypatch.setattr(timing, "LARGEST", 2e9)
    rate = timing.rate(kind, "moco", settings, form, operations, CPU)
    assert rate == pytest.approx(operations * sizes[0] / settings.batch_size / 0.5)
    assert sizes[0] % settings.groups == 0 and settings.groups <= sizes[0] <= settings.batch_size


def test_the_weights_of_a_timed_training_stay(default, monkeypatch):
    monkeypatch.setattr(timing, "SECONDS", 0)
    settings, form, *_ = counted(default, Cell("diamonds", "augmented", "npair", "none"))
    training = pretraining.Training(timing.noise("tabular", form, settings.batch_size, CPU), "npair", settings, 0)
    before, steps, inner = [p.clone() for p in training.method.parameters()], [], training.optimiser.step
    monkeypatch.setattr(training.optimiser, "step", lambda: steps.append(9 if not steps else 2) or inner())
    clock = types.SimpleNamespace(process_time=lambda: sum(steps), perf_counter=lambda: sum(steps))
    monkeypatch.setattr(timing, "time", clock)
    assert timing.step_seconds(training) == 2  # without the first step
    assert len(steps) > timing.STEPS and all(map(torch.equal, before, training.method.parameters()))


# --- the table and the commands


def job(group, output, seconds, trains=True, **more):
    cell = Cell("x", "augmented", "npair", "none")
    return study.Job(group, Path(output), "x", trains, cell, {}, "", 0, seconds=seconds, **more)


def test_the_table_adds_up():
    found = [
        job("pretrain", "a", 7200, steps=1000, operations=2e15, memory=3e9, done=True),
        job("pretrain", "a", 7200, steps=1000, operations=2e15, memory=3e9),
        job("evaluate", "b", 90, trains=False, operations=1e15, memory=5e9),
    ]
    lines = plain(command.HEADS, command.lines(found, 1, 2.0)).splitlines()
    assert len({len(line) for line in lines}) == 1
    _, training, evaluating, total = (" ".join(line.split()) for line in lines)
    assert training == "pretrain 1 of 1 1 of 2 1,000 2 3.00 2.0 h 4.0 h"
    assert evaluating == "evaluate 1 of 1 - - 1 5.00 92 s 92 s"
    assert total == "total 2 of 2 1 of 2 1,000 3 5.00 2.0 h 4.0 h"
    assert len(command.lines(found, 1, 2.0, cells=True)) == 5
    assert command.fits(found, 6e9) == "Each process of what is left fits into 6 GB.\n"
    assert command.fits(found, 4e9) == "Does not fit into 4 GB: b (5.0 GB).\n"


@pytest.mark.parametrize("workers,seconds", [(1, 9 + 4), (2, 6 + 4), (3, 3 + 4), (8, 3 + 4)])
def test_seeds_run_side_by_side_and_stages_one_after_the_other(workers, seconds):
    found = [*(job("pretrain", "a", 3) for _ in range(3)), job("evaluate", "b", 3, trains=False)]
    assert command.wall(found, workers, 0.5) == seconds


@pytest.mark.parametrize(
    "seconds,text",
    [(0, "0 s"), (0.25, "0.25 s"), (99, "99 s"), (750, "12.5 min"), (7200, "2.0 h"), (4_442_400, "1,234 h")],
)
def test_durations(seconds, text):
    assert command.duration(seconds) == text


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["imix", *arguments])
    command_line.command()
    return capsys.readouterr().out


def test_the_command_prints_the_plan(monkeypatch, capsys, tmp_path):
    changes = [part for change in SMALL for part in ("-S", change)]
    text = run(monkeypatch, capsys, "plan", "--rate", "1e12", "--memory", "8", "--cells", *changes)
    assert "pretrain" in text and "  data/encoders/diamonds/augmented/npair/none" in text and "fits into 8 GB" in text
    assert "at 1e+12 operations a second" in text
    total = next(line for line in text.splitlines() if line.startswith("total"))
    assert total.split()[1:7] == ["4", "of", "4"] * 2


@pytest.mark.parametrize(
    "option", ["--rate -1", "--rate nan", "--memory 0", "--memory inf", "--rate x", "--rate 1 --rate 2", "--rat 1"]
)
def test_an_impossible_option_is_refused(monkeypatch, capsys, option):
    with pytest.raises(UserError) as error:
        run(monkeypatch, capsys, "plan", *option.split())
    assert option.split()[0] in str(error.value)


def test_the_store_is_listed_and_pruned(trained, monkeypatch, capsys):
    store.save_state(store.entry("trainings", "0" * 24), {"a": torch.zeros(9)}, {})
    lines = run(monkeypatch, capsys, "store").splitlines()
    assert len(lines) == 4 and "2 entries" in lines[3]
    assert any(
        "trainings" in line and " finished" in line and "diamonds augmented npair none seed 0" in line for line in lines
    )
    assert any("unfinished" in line and "0" * 24 in line for line in lines)
    assert "2 entries removed" in run(monkeypatch, capsys, "store", "--prune", "1e-9")
    assert store.entries() == []


def test_the_readme_is_written_where_it_changed(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    reporting = types.ModuleType("imix.reporting.readme")
    reporting.render = lambda text, reports: text.replace("old", "new")
    reporting.with_graph = lambda text, stages: text
    monkeypatch.setitem(sys.modules, "imix.reporting.readme", reporting)
    import imix.reporting

    monkeypatch.setattr(imix.reporting, "readme", reporting, raising=False)
    (tmp_path / "README.md").write_text("old\n")
    assert run(monkeypatch, capsys, "readme") == "README.md: written\n"
    before = (tmp_path / "README.md").stat().st_mtime_ns
    assert run(monkeypatch, capsys, "readme") == "README.md: up to date\n"
    assert (tmp_path / "README.md").read_text() == "new\n" and (tmp_path / "README.md").stat().st_mtime_ns == before
    (tmp_path / "README.md").unlink()
    with pytest.raises(UserError, match=r"README\.md: cannot be read"):
        run(monkeypatch, capsys, "readme")


def test_the_identity_is_the_projects_own(default):
    files = resolved.resolved(default)
    for each in islice(plan(default), 3):
        code = files[each.cell.path.with_suffix(".json")]["code"]["training"]
        assert each.code == code == identity.training_code("npair", "image")
