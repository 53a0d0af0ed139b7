"""The plan counts what a training does."""

import json

import pytest
import torch
from torch import nn

from imix import planning, pretraining, settings
from imix.errors import UserError
from tests.conftest import ROOT
from tests.test_pipeline import Copy
from tests.test_pretraining import dataset
from tests.test_pretraining import settings as cell_settings

ROWS = planning.Form(200, (10,), torch.float32, 4, (4, 6))


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
    assert planning.count(method, cell, ROWS).operations == expected


def test_memory_is_weights_gradients_momentum_and_what_backward_needs():
    """A linear classifier on one group: the backward pass needs the encoder's activations, counted by hand."""
    cell = cell_settings("supervised", "none")
    network = pretraining.Training(dataset(), "supervised", cell, 0).method
    weights = 4 * sum(p.numel() for p in network.parameters())
    buffers = sum(z.nbytes for z in network.buffers())
    activations = planning.count("supervised", cell, ROWS).memory - 3 * weights - buffers
    double = planning.count("supervised", cell.model_copy(update={"batch_size": 2 * cell.batch_size}), ROWS).memory - 3 * weights - buffers
    widths = [z.shape[0] for z in network.encoder.layers.parameters() if z.dim() == 2]
    assert cell.batch_size * 4 * sum(widths) < activations < cell.batch_size * 4 * 6 * sum(widths) + 10_000
    assert 1.8 * activations < double < 2.1 * activations


def test_memory_grows_with_the_batch():
    small, large = (planning.count("moco", cell_settings("moco", batch_size=size), ROWS).memory for size in (40, 80))
    weights = planning.count("moco", cell_settings("moco", batch_size=2), ROWS).memory
    assert weights < small < large < 2 * small


def test_the_papers_grid_without_computing_it(tmp_path, monkeypatch):
    params = settings.load(changes={"grid.datasets": "[cifar10]", "grid.methods": "[moco]", "grid.seeds": "[0, 1]", "ablations.run": "[]"})
    monkeypatch.chdir(tmp_path)  # where nothing is trained
    plain, mixed = planning.plan(params, torch.device("cpu"), 1e13, tmp_path / "timings.json")
    assert plain.steps == 1000 * (50_000 // 256) and mixed.steps == 4 * plain.steps and (plain.trainings, plain.left) == (2, 2)
    # ResNet-50 at 32 x 32 has 1.3e9 products; one view with gradient (3), one without (1)
    assert plain.step.operations == pytest.approx(2 * 1.3e9 * 256 * 4, rel=0.02)
    assert plain.seconds == plain.step.operations / 1e13
    operations, hours = 2 * plain.steps * plain.step.operations, 2 * plain.steps * plain.seconds / 3600
    total = f"2 of 2 trainings left: {operations / 1e15:,.4g} PFLOP, {hours:,.4g} hours\n"
    assert planning.table([plain]).endswith(total) and planning.table([plain._replace(left=0)]).endswith(
        "0 of 2 trainings left: 0 PFLOP, 0 hours\n"
    )


def test_forms_are_those_of_the_papers_data_sets():
    params = settings.load()
    rows = {"cifar10": 50_000, "cifar100": 50_000, "speech_commands": 56_771, "covtype": 15_120, "covtype_small": 15_120, "segment": 1250}
    found = {name: planning.form(params, name) for name in rows}
    assert {name: form.rows for name, form in found.items()} == rows
    assert all(sum(form.column_groups) == form.shape[0] for form in found.values() if form.column_groups)


def test_trainings_that_are_done_are_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cell = settings.resolve(settings.load(ROOT / "params.yaml"), "segment", "npair", "none")
    folder = planning.encoder_folder("segment", "npair", "none", 0)
    assert not planning._done(folder, cell)
    folder.mkdir(parents=True)
    (folder / "provenance.json").write_text(json.dumps({"settings": {"settings": cell.model_dump()}}))
    assert planning._done(folder, cell)
    assert not planning._done(folder, cell.model_copy(update={"epochs": 1}))


def test_timings_are_kept_and_impossible_batches_told(tmp_path, monkeypatch):
    params = settings.load(changes={"grid.datasets": "[segment]", "grid.methods": "[npair]", "grid.mixes": "[none]", "ablations.run": "[]"})
    calls = []
    monkeypatch.setattr(planning, "timed", lambda *cell: calls.append(1) or 2.5)
    for _ in range(2):
        (plan,) = planning.plan(params, torch.device("cpu"), None, tmp_path / "timings.json")
    assert plan.seconds == 2.5 and len(calls) == 1
    params.recipe["segment"]["batch_size"] = 2000
    with pytest.raises(UserError, match="batch_size = 2000: must be at most the 1250 training rows of segment"):
        planning.plan(params, torch.device("cpu"), 1e12, tmp_path / "timings.json")


def test_every_form_can_be_timed():
    params = settings.load()
    for name in ("mnist", "segment", "spoken"):
        cell, rows = settings.resolve(params, name, "moco", "imix"), planning.form(params, name)
        assert planning.timed("moco", cell.model_copy(update={"batch_size": 4}), rows, planning.Step(1, 1), torch.device("cpu")) > 0
    assert planning.form(params, "spoken").rows == round(160 * 12 / 0.9) and planning.form(params, "mnist").shape == (1, 32, 32)


@pytest.mark.parametrize(
    "arguments,words",
    [
        ("plan -S grid.seds=1", "grid.seds = 1: unknown key"),
        ("plan -S grid.seeds.first=1", "grid.seeds is a value, not a block"),
        ("plan -S pretrain.momentum.x.y=1", "pretrain.momentum is a value, not a block"),
        ("plan -S grid.seeds=[0,", "not YAML"),
        ("plan -S girds.seeds=1", "no entry 'girds' (did you mean 'grid'?)"),
        ("plan --rate -1", "--rate = -1.0: must be a positive number"),
    ],
)
def test_a_mistake_in_a_plan_is_one_line(environment, arguments, words):
    output = Copy(ROOT, environment).run("python", "-m", "imix", *arguments.split(), code=1)
    assert words in output and "Traceback" not in output and len(output.splitlines()) == 1
