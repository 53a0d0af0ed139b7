"""What only a GPU can show. With IMIX_DEVICE=cpu the same on a CPU, to try the tests themselves."""

import os

import pytest
import torch
from torch import Tensor

from benchmarks import cells
from imix import evaluation, features, pretraining, runtime, store
from tests.test_device import DOMAINS, KINDS, METHODS, ROWS, training

DEVICE = torch.device("cpu" if os.environ.get("IMIX_DEVICE") == "cpu" else "cuda:0")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        DEVICE.type == "cuda" and not torch.cuda.is_available(), reason="torch sees no CUDA device on this machine"
    ),
]
STEPS = 4  # two epochs


@pytest.fixture(autouse=True)
def configured():
    """The settings of a training's process; the other tests have their own."""
    runtime.configure()
    yield
    torch.use_deterministic_algorithms(False)


def same(name, method, device=DEVICE, **changes):
    """A training whose rate is high enough to part what is not the same."""
    return training(name, method, device, learning_rate=0.5, **changes)


def losses(training, steps=STEPS):
    """The losses of some steps."""
    found, forward = [], training.step_loss

    def step_loss(rows):
        found.append(forward(rows))
        return found[-1]

    training.step_loss = step_loss
    for _ in range(steps):
        training.run_step()
    return torch.stack(found).detach().cpu()


def assert_same(one, two):
    states = [each.state() for each in (one, two)]
    assert states[0][0].keys() == states[1][0].keys() and str(states[0][1]["history"]) == str(states[1][1]["history"])
    assert not [key for key, tensor in states[0][0].items() if not torch.equal(tensor, states[1][0][key])]


@pytest.mark.parametrize("mix", ["none", "imix"])
@pytest.mark.parametrize("name", DOMAINS)
@pytest.mark.parametrize("method", METHODS)
def test_a_gpu_computes_what_a_cpu_computes(method, name, mix):
    gpu, cpu = (losses(same(name, method, device, mix=mix)) for device in (DEVICE, "cpu"))
    torch.testing.assert_close(gpu[:1], cpu[:1], rtol=2e-4, atol=2e-5)
    torch.testing.assert_close(gpu, cpu, rtol=2e-2, atol=2e-3)  # steps carry rounding on


@pytest.mark.parametrize(
    "name,mix", [("diamonds", "none"), ("diamonds", "imix"), ("cifar10", "imix"), ("spoken", "none")]
)
@pytest.mark.parametrize("method", METHODS)
def test_a_killed_training_ends_bit_for_bit_where_it_would_have(method, name, mix, tmp_path):
    whole, killed = (same(name, method, mix=mix) for _ in range(2))
    pretraining.run(whole, "whole")
    for _ in range(STEPS - 1):
        killed.run_step()
    entry = store.entry("trainings", "a" * 24)
    store.save_state(entry, *killed.state())
    resumed = same(name, method, mix=mix)
    resumed.load_state(*store.load_state(entry))
    pretraining.run(resumed, "resumed")
    assert_same(resumed, whole)


@pytest.mark.skipif(DEVICE.type == "cpu", reason="a CPU has nothing to wait for")
@pytest.mark.parametrize("name,method,changes", [
    *((name, method, {}) for name in DOMAINS for method in METHODS),
    *(("diamonds", "moco", changes) for changes in KINDS.values()),
    ("mnist", "npair", {"mix": "icutmix"}), ("mnist", "npair", {"precision": "bfloat16"}),
])  # fmt: skip
def test_no_step_waits_for_the_gpu(name, method, changes):
    mine = same(name, method, **changes)
    mine.views.noise if name == "spoken" else None  # noqa: B018 - made at the first step
    torch.cuda.set_sync_debug_mode("error")
    try:
        mine.run_step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name,changes", [("mnist", {}), ("diamonds", {"augmentation": "clean"})])
def test_rows_on_the_host_give_the_same_bits(name, changes):
    there, sent = (same(name, "moco", on_host=rows, **changes) for rows in ((), ROWS))
    for each in (there, sent):
        pretraining.run(each, "rows")
    assert_same(there, sent)


@pytest.mark.parametrize("changes", [{"precision": "tf32"}, {"precision": "bfloat16"}, {"compile": True}], ids=str)
@pytest.mark.parametrize("name", ["cifar10", "diamonds"])
def test_a_faster_training_is_near(name, changes):
    fast, exact = (losses(same(name, "moco", **each), 2) for each in (changes, {}))
    torch.testing.assert_close(fast[0], exact[0], rtol=0.05, atol=0.02)
    torch.testing.assert_close(fast[1], exact[1], rtol=0.25, atol=0.1)  # a step of eight rows carries rounding on


@pytest.mark.parametrize("name", ["cifar10", "diamonds", "spoken"])
def test_a_gpu_evaluates_as_a_cpu(name):
    gpu, cpu = (same(name, "npair", device) for device in (DEVICE, "cpu"))
    one, other = (
        features.extract(each.method.encoder, each.dataset.test, each.views.clean).cpu() for each in (gpu, cpu)
    )
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    probe = cells.probe(name).model_copy(update={"epochs": 2, "milestones": [1]})
    found = evaluation.evaluate(gpu.method.encoder, gpu.dataset, gpu.settings.views, probe, 0)
    assert all(isinstance(value, (int, float, list)) and not isinstance(value, Tensor) for value in found.values())
