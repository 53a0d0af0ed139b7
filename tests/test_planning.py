"""The plan counts what trainings and evaluations do, and leaves out what DVC has."""

import json
import math
import shutil

import pytest
import torch
from torch import nn

from imix import planning, pretraining, settings
from imix.errors import UserError
from imix.evaluation import evaluate
from imix.planning import counting, forms, table, timing
from imix.settings import code
from tests.conftest import ROOT
from tests.test_pipeline import Copy
from tests.test_pretraining import PROBE, dataset
from tests.test_pretraining import settings as cell_settings

ROWS = forms.Form(200, (10,), torch.float32, 4, (4, 6), validation=40, test=80)
ONE = {"grid.datasets": "[segment]", "grid.methods": "[npair]", "grid.mixes": "[none]", "grid.seeds": "[0, 1]", "ablations.run": "[]"}


class Fast(planning.Machine):
    """A device of 1e13 operations a second; nothing is measured."""

    def __init__(self, cache):
        super().__init__(torch.device("cpu"), 1e13, cache)

    def start(self):
        return timing.Start(2.0, 3e8)


@pytest.fixture
def fast(tmp_path):
    return Fast(tmp_path / "timings.json")


def of(jobs, group):
    return [job for job in jobs if job.group == group]


def products(module: nn.Module) -> int:
    return sum(layer.weight.numel() for layer in module.modules() if isinstance(layer, nn.Linear))


@pytest.mark.parametrize("method,views", [("npair", 2), ("supervised", 1)])
def test_operations_are_those_of_the_matrix_products(method, views):
    """Forward, gradient of the weights, gradient of the inputs: three products a layer, two of the first ones."""
    cell = cell_settings(method, "none")
    network = pretraining.Training(dataset(), method, cell, 0).method
    first = products(network.encoder.inputs)
    expected = 2 * views * cell.batch_size * (3 * products(network.network()) - first)
    if method == "npair":
        expected += 2 * 3 * cell.batch_size**2 * cell.embedding  # the logits
    assert counting.count(method, cell, ROWS).operations == expected


def test_memory_is_weights_gradients_momentum_and_what_backward_needs():
    """A linear classifier on one group: the backward pass needs the encoder's activations, counted by hand."""
    cell = cell_settings("supervised", "none")
    network = pretraining.Training(dataset(), "supervised", cell, 0).method
    weights = 4 * sum(p.numel() for p in network.parameters())
    buffers = sum(z.nbytes for z in network.buffers())
    activations = counting.count("supervised", cell, ROWS).memory - 3 * weights - buffers
    double = counting.count("supervised", cell.model_copy(update={"batch_size": 2 * cell.batch_size}), ROWS).memory - 3 * weights - buffers
    widths = [z.shape[0] for z in network.encoder.layers.parameters() if z.dim() == 2]
    assert cell.batch_size * 4 * sum(widths) < activations < cell.batch_size * 4 * 6 * sum(widths) + 10_000
    assert 1.8 * activations < double < 2.1 * activations


def test_memory_grows_with_the_batch():
    small, large = (counting.count("moco", cell_settings("moco", batch_size=size), ROWS).memory for size in (40, 80))
    weights = counting.count("moco", cell_settings("moco", batch_size=2), ROWS).memory
    assert weights < small < large < 2 * small


def test_what_changes_no_operation_is_not_counted_twice(monkeypatch):
    plain, mixed = (counting.count("npair", cell_settings("npair", mix), ROWS) for mix in ("none", "imix"))
    monkeypatch.setattr(counting, "make_encoder", None)  # nothing is built any more
    assert counting.count("npair", cell_settings("npair", "imix", epochs=9, alpha=3.0), ROWS) == plain == mixed
    with pytest.raises(TypeError):
        counting.count("npair", cell_settings("npair", "none", batch_size=44), ROWS)


def test_an_evaluation_by_hand(monkeypatch):
    """Rows and steps as `evaluate` really does them; the probes' products of an epoch: logits and gradient."""
    data, cell = dataset(), cell_settings("npair")
    training = pretraining.Training(data, "npair", cell, 0)
    encoder = counting.encoding(settings.Domain(encoder=cell.encoder, views=cell.views), ROWS)
    assert encoder.operations == 2 * products(training.method.encoder) and encoder.features == 32
    found = counting.evaluation(encoder, ROWS, PROBE)
    rows, batches, randperm, few = [], [], torch.randperm, [math.ceil(160 * share) for share in (0.01, 0.1)]
    training.method.encoder.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    monkeypatch.setattr(torch, "randperm", lambda n, **options: batches.append(n) or randperm(n, **options))
    evaluate(training.method.encoder, training.views, data, PROBE, 0)
    assert found.rows == sum(rows) == 200 + 80 + 2 * 80
    sizes = [160, 200, *few]
    for size in (160, 200):
        assert batches.count(size) >= PROBE.epochs
    assert found.steps == PROBE.epochs * sum(math.ceil(size / PROBE.batch_size) for size in sizes)
    weights = 33 * 4 * len(PROBE.rates)
    assert found.probes == weights * (4 * PROBE.epochs * sum(sizes) + 2 * (200 + 3 * (40 + 80)))
    assert counting.evaluation(counting.raw(ROWS), ROWS, PROBE).rows == found.rows and counting.raw(ROWS).features == 10


def test_the_papers_grid_without_computing_it(tmp_path, monkeypatch, fast):
    changes = {"grid.datasets": "[cifar10]", "grid.methods": "[moco]", "grid.seeds": "[0, 1]", "ablations.run": "[]"}
    params = settings.load(changes=changes)
    monkeypatch.chdir(tmp_path)  # where nothing is done
    assert planning.cached(params) is None
    jobs = planning.plan(params, fast, None)
    plain, _, mixed, _, labelled, _ = (job.cost for job in of(jobs, "pretrain"))
    assert labelled.steps == 2000 * (45_000 // 256)  # never the validation rows
    assert plain.steps == 1000 * (50_000 // 256) and mixed.steps == 4 * plain.steps
    # ResNet-50 at 32 x 32 has 1.3e9 products; one view with gradient (3), one without (1); every 50 epochs all training rows
    products = 1.3e9 * (plain.steps * 256 * 4 + 1000 / 50 * 50_000)
    assert plain.operations == pytest.approx(2 * products, rel=0.02) and plain.seconds == pytest.approx(plain.operations / 1e13)
    evaluated = of(jobs, "evaluate")[-1].cost  # of two seeds: rows, ten augmented copies of the training rows
    assert evaluated.operations == pytest.approx(2 * 2 * 1.3e9 * (11 * 50_000 + 10_000), rel=0.02)
    assert 4 * 2048 * 11 * 50_000 < evaluated.memory < 9e9 and 5e9 < plain.memory < 9e9
    assert [len({job.output for job in of(jobs, group)}) for group in planning.GROUPS] == [1, 2, 6, 3, 0, 3]


def test_ablations_are_counted_with_what_they_change(fast):
    params = settings.load(
        changes=ONE | {"ablations.run": "[data_size, contrast]", "ablations.datasets": "[segment]", "ablations.seeds": "[0, 1, 2]"}
    )
    jobs = of(planning.plan(params, fast, None), "ablate")
    assert len(jobs) == 3 * (5 * 2 + 2 * 2) and len({job.output for job in jobs}) == 2 * 3 and all(job.trainings for job in jobs)
    steps = {job.name.split()[2]: job.cost.steps for job in jobs if job.name.endswith("npair imix")}
    assert steps == {"fifth": 30 * 2, "half": 30 * 5, "unchanged": 30 * 10, "fifth_steps": 150 * 2, "half_steps": 60 * 5}
    assert {job.name for job in jobs} >= {"segment contrast own moco imix", "segment contrast batch moco none"}


def test_forms_are_those_of_the_data_sets():
    params = settings.load()
    rows = {"cifar10": 50_000, "cifar100": 50_000, "speech_commands": 56_764, "covtype": 15_120, "covtype_small": 15_120, "segment": 1250}
    found = {name: forms.form(params, name) for name in params.data}
    assert {name: found[name].train for name in rows} == rows
    assert all(sum(form.column_groups) == form.shape[0] for form in found.values() if form.column_groups)
    assert found["mnist"][:2] == (1000, (1, 32, 32)) and (found["mnist"].fit, found["mnist"].test) == (750, 3000)
    spoken = found["spoken"]
    assert (spoken.train, spoken.validation, spoken.test) == (round(160 * 12 / 0.9), 30 * 12 / 0.9, 70 * 12)
    assert spoken.fit == spoken.train and spoken.memory == 2 * 16_000 * (2133 + 400 + 840)
    assert (found["speech_commands"].validation, found["covtype"].test, found["covtype_small"].test) == (7553, 565_892, 12_000)


@pytest.fixture(scope="module")
def fetched(tmp_path_factory, environment):
    """A clone in which one cell's encoders are trained and judged."""
    folder = tmp_path_factory.mktemp("planned")
    for name in ("imix", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    clone = Copy(folder, environment)
    clone.set("grid.seeds", [0, 1])
    clone.run("dvc", "init", "-q", "--no-scm")
    clone.run("dvc", "repro", "-q", "evaluate@segment-npair-none")
    return clone


SEGMENT = ["segment/raw", "segment/tensors", "encoders/segment/npair/none/0.safetensors", "metrics/segment/npair/none"]


def left(changes=()):
    """What is not done, by what it writes."""
    cached = planning.cached(settings.load(changes=ONE | dict(changes)))
    return [output for output in SEGMENT if not cached.done(planning.Path("data", output))]


def test_what_dvc_has_is_done(fetched, monkeypatch):
    monkeypatch.chdir(fetched.folder)
    monkeypatch.setattr(code, "ROOT", fetched.folder)
    one_seed_less = {"grid.seeds": "[0]"}
    assert left() == left(one_seed_less) == []
    assert left({"grid.seeds": "[0, 2]"}) == SEGMENT[3:]
    assert left({"cell.segment.npair.none.epochs": "7"}) == SEGMENT[2:]
    assert left({"data.segment.rows.test": "800"}) == SEGMENT[1:]
    assert left({"probe.segment.neighbours": "3"}) == SEGMENT[3:]
    cache, away = fetched.folder / ".dvc" / "cache" / "files", fetched.folder / "away"
    cache.rename(away)
    assert left() == SEGMENT  # what lies in data/ alone DVC would make again
    params = settings.load(changes=ONE)
    asked = settings.variants(params, "supervised", "segment")
    assert planning.cached(params).variants("supervised", "segment", 0, asked) == [False, False]
    away.rename(cache)
    shutil.rmtree("data")  # DVC would check it out again, but nothing that was not asked for
    assert left() == [] and left(one_seed_less) == SEGMENT[3:]
    for module, stale in {"objectives.py": 2, "evaluation.py": 3, "views/tabular.py": 1, "errors.py": 4}.items():
        path = fetched.folder / "imix" / module
        source = path.read_text()
        path.write_text(source + "# changed\n")
        assert left() == SEGMENT[stale:]
        path.write_text(source)
    (fetched.folder / "dvc.lock").unlink()
    assert left() == []  # the run-cache knows it, too
    shutil.rmtree(fetched.folder / ".dvc" / "cache" / "files")
    assert left() == SEGMENT


def test_the_table_adds_up(fast):
    jobs = [
        planning.Job("pretrain", "a", planning.Path("a/0"), 1, planning.Cost(1000, 2e15, 3e9, 7200), True),
        planning.Job("pretrain", "a", planning.Path("a/1"), 1, planning.Cost(1000, 2e15, 3e9, 7200), False),
        planning.Job("evaluate", "a", planning.Path("b/1"), 0, planning.Cost(0, 1e15, 5e9, 90), False),
    ]
    lines = table.table(jobs, fast).splitlines()
    assert len({len(line) for line in lines}) == 1
    _, training, judging, start, total = (" ".join(line.split()) for line in lines)
    assert training == "pretrain (the grid's trainings) 1 of 2 1 of 2 1,000 2 3.00 2.0 h 4.0 h"
    assert judging == "evaluate (probes, kNN, baselines, transfer) 1 of 1 - - 1 5.00 90 s 90 s"
    assert start == "start-up - - - - - 5.6 s 8.4 s"
    assert total == "total 2 of 3 1 of 2 1,000 3 5.00 2.0 h 4.0 h"
    assert table.table(jobs, fast, cells=True).count("\n  a ") == 2
    assert table.fits(jobs, 6e9) == "Everything that is left fits into 6 GB.\n"
    assert table.fits(jobs, 4e9) == "Does not fit into 4 GB: evaluate a (5.0 GB).\n"


@pytest.mark.parametrize(
    "seconds,text", [(0, "0 s"), (0.25, "0.25 s"), (99, "99 s"), (750, "12.5 min"), (7200, "2.0 h"), (4_442_400, "1,234 h")]
)
def test_durations(seconds, text):
    assert table.duration(seconds) == text


def test_timings_are_kept_and_impossible_batches_told(tmp_path, monkeypatch, fast):
    calls = []
    for name in ("step", "encoding", "probing", "figures"):
        monkeypatch.setattr(timing, f"{name}_seconds", lambda *inputs, name=name: calls.append(name) or 2.5)
    params = settings.load(changes=ONE | {"grid.methods": "[npair, moco]"})
    for _ in range(2):
        machine = planning.Machine(torch.device("cpu"), None, tmp_path / "timings.json")
        machine.start = fast.start
        cost = of(planning.plan(params, machine, None), "pretrain")[0].cost
    assert cost.seconds > 2.5 * cost.steps and cost.memory > 3e8
    assert sorted(calls) == ["encoding"] * 2 + ["figures"] * 2 + ["probing"] * 2 + ["step"] * 3
    params.recipe["segment"]["batch_size"] = 2000
    with pytest.raises(UserError, match="batch_size = 2000: must be at most the 1000 training rows of segment"):
        planning.plan(params, fast, None)


def test_every_form_can_be_timed(monkeypatch):
    monkeypatch.setattr(timing, "SECONDS", 0)
    params, device = settings.load(), torch.device("cpu")
    for name in ("mnist", "segment", "spoken"):
        cell, rows = settings.resolve(params, name, "moco", "imix"), forms.form(params, name)
        assert timing.step_seconds("moco", cell.model_copy(update={"batch_size": 4}), rows, counting.Step(1, 1), device) > 0
        assert 0 < timing.encoding_seconds(cell, rows, counting.Encoding(1e10, 1, 1, 1), device) < 1
    assert 0 < timing.probing_seconds(8, 3, PROBE, device) < 1 and 0 < timing.figures_seconds(90, 50, 8, PROBE, device) < 10


def test_large_batches_are_timed_by_small_ones(monkeypatch):
    """A fixed cost of 3 s and 0.5 s an item, of which a sixteenth and a thirty-second of the batch are timed."""
    sizes = []
    monkeypatch.setattr(timing, "batch_seconds", lambda method, cell, rows, size, device: sizes.append(size) or 3 + size / 2)
    cell = cell_settings("npair", batch_size=256, groups=2)
    assert timing.step_seconds("npair", cell, ROWS, counting.Step(16 * timing.LARGEST, 1), torch.device("cpu")) == 3 + 256 / 2
    assert timing.step_seconds("npair", cell, ROWS, counting.Step(timing.LARGEST, 1), torch.device("cpu")) == 3 + 256 / 2
    assert sizes == [16, 8, 256]
    assert timing.step_seconds("npair", cell, ROWS, counting.Step(1e9 * timing.LARGEST, 1), torch.device("cpu")) == (3 + 2) * 256 / 4


@pytest.mark.parametrize("damaged", ["", "[]", "{", "1"])
def test_a_start_is_measured_whatever_was_kept(tmp_path, damaged):
    (tmp_path / "timings.json").write_text(damaged)
    start = planning.Machine(torch.device("cpu"), 1e12, tmp_path / "timings.json").start()
    assert 0.3 < start.seconds < 60 and list(json.loads((tmp_path / "timings.json").read_text()).values()) == [list(start)]


@pytest.mark.parametrize(
    "arguments,words",
    [
        ("plan -S grid.seds=1", "grid.seds = 1: unknown key"),
        ("plan -S grid.seeds.first=1", "grid.seeds is a value, not a block"),
        ("plan -S pretrain.momentum.x.y=1", "pretrain.momentum is a value, not a block"),
        ("plan -S grid.seeds=[0,", "not YAML"),
        ("plan -S girds.seeds=1", "no entry 'girds' (did you mean 'grid'?)"),
        ("plan --rate -1", "--rate = -1.0: must be a positive number"),
        ("plan --memory nan", "--memory = nan: must be a positive number of GB"),
    ],
)
def test_a_mistake_in_a_plan_is_one_line(environment, arguments, words):
    output = Copy(ROOT, environment).run("python", "-m", "imix", *arguments.split(), code=1)
    assert words in output and "Traceback" not in output and len(output.splitlines()) == 1
