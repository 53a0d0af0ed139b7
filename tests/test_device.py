"""Training steps on a made-up GPU: tensors on "cuda" that have shapes and no values, and what would wait for them.

Host tensors are real, since host code branches on them. Fake tensors have no backward pass; that runs on the CPU.
"""

import inspect
import math
import re

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from benchmarks import cells
from imix import dataset, evaluation, plugins, pretraining, runtime

CUDA, HOST = torch.device("cuda", 0), torch.device("cpu")
WAITING = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2"}  # by their output
METHODS = plugins.names("methods")
# Small encoders. Not narrower: oneDNN's backward pass of a channels-last 1 x 1 convolution with stride 2 and 2 to 7
# channels writes past its buffer where AVX2 is the most that it may use
DOMAINS = {
    "mnist": {"encoder": {"depth": 10, "width": 8, "stem_stride": 2}},
    "cifar10": {"encoder": {"depth": 10, "width": 8, "stem_stride": 2}},  # in colour
    "diamonds": {"encoder": {"width": 1 / 64}},
    "spoken": {"encoder": {"depth": 10, "width": 8, "stem_stride": 2}},
}
KINDS = {
    "plain": {"mix": "none"},
    "clean": {"augmentation": "clean", "inputmix": 2, "shared_lam": True},
    "groups": {"groups": 2},
    "hidden": {"mix_depth": "hidden"},
    "both": {"mix_inputs": "both"},
}
ROWS = ("train", "fit", "validation", "test")


class Device(TorchDispatchMode):
    """Send what is on "cuda" to `FakeTensorMode`; within a step (``strict``), refuse what would wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.fake, self.strict = FakeTensorMode(allow_non_fake_inputs=True), False

    def __enter__(self) -> "Device":
        self.fake.__enter__()
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.fake.__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        leaves = tree_leaves((args, kwargs or {}))
        ours = any(isinstance(leaf, FakeTensor) for leaf in leaves)
        if not ours and CUDA.type not in {leaf.type for leaf in leaves if isinstance(leaf, torch.device)}:
            with unset_fake_temporarily():
                return func(*args, **kwargs or {})
        name, kwargs = func._schema.name.removeprefix("aten::"), kwargs or {}
        target = kwargs.get("device")
        if self.strict:
            there = [leaf for leaf in leaves if isinstance(leaf, Tensor) and not isinstance(leaf, FakeTensor)]
            # single numbers do not count: they travel with the kernel
            assert not (ours and any(leaf.dim() for leaf in there)), f"{func}: on the device and on the host"
            assert name not in WAITING, f"{func} waits for the device"
            assert not ours or target is None or target.type == CUDA.type, f"{func}: a copy to the host"
            assert ours or not there or kwargs.get("non_blocking"), f"{func}: a copy to the device that waits for it"
        elif name in WAITING:  # some value
            return {torch.bool: True, torch.int64: 1}.get(args[0].dtype, 1.0)
        elif ours and target == HOST:
            with unset_fake_temporarily():
                return torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        return func(*tree_map(self._copied, args), **kwargs)

    @staticmethod
    def _copied(value):
        """Return a copy of a host tensor: fake tensors keep references to theirs, and `Module.to` refuses that."""
        if isinstance(value, FakeTensor) or not isinstance(value, Tensor):
            return value
        with unset_fake_temporarily():
            return value.detach().clone()


class NoLists(TorchFunctionMode):
    """Refuse tensors made on the device from Python numbers: that copy waits, and no dispatcher sees it."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.tensor, torch.as_tensor):
            assert torch.device((kwargs or {}).get("device") or "cpu").type == "cpu", "torch.tensor(device=) waits"
        return func(*args, **kwargs or {})


def moved(module, device=None, original=nn.Module.to, **options):
    """`Module.to`, which cannot replace fake parameters by others."""
    if device is None:
        return original(module, **options)
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None and parameter.device != device:
                part._parameters[name] = nn.Parameter(parameter.detach().to(device), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            part._buffers[name] = buffer.to(device)
    return module


@pytest.fixture
def device(monkeypatch):
    """A made-up GPU."""
    monkeypatch.setattr(nn.Module, "to", moved)
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(Tensor, "backward", lambda self: None)
    with Device() as mode:
        yield mode


def settings(name, method, mix="imix", **changes):
    small = DOMAINS[name] | {"batch_size": 8, "queue": 16, "alpha": 1.0, "epochs": 2, "warmup_epochs": 0}
    small |= {"knn_every": 1, "embedding": 8} | changes
    cell = cells.cell(name, method, mix)
    known = {key: value for key, value in small.items() if key in type(cell).model_fields}
    return type(cell).model_validate(cell.model_dump() | known)


def training(name, method, device=HOST, on_host=(), **changes):
    """A training of a small cell, on the same noise each time.

    ``on_host``: tensors of the data set that do not fit the device.
    """
    torch.manual_seed(0)
    data = vars(cells.noise(name, 16))
    tensors = {field: value for field, value in data.items() if isinstance(value, Tensor)}
    there = {field: value if field in on_host else value.to(device) for field, value in tensors.items()}
    return pretraining.Training(dataset.Dataset(**data | there), method, settings(name, method, **changes), 0)


def step(training, mode):
    """Take a step within an epoch."""
    mode.strict = True
    with NoLists():
        training.run_step()
    mode.strict = False
    assert training.step == 1 and training.total.device == CUDA


@pytest.mark.parametrize("name", DOMAINS)
@pytest.mark.parametrize("method", METHODS)
def test_no_step_waits_for_the_device(device, method, name):
    mine = training(name, method, CUDA)
    step(mine, device)
    if method == "moco":
        mine.run_step()  # an epoch's end reads the loss, and watches features
        assert mine.epoch == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["npair", "moco"])
def test_no_kind_of_step_waits_for_the_device(device, method, kind):
    step(training("diamonds", method, CUDA, **KINDS[kind]), device)


def test_cutmix_does_not_wait_for_the_device(device):
    step(training("mnist", "npair", CUDA, mix="icutmix"), device)


@pytest.mark.parametrize("name,changes", [("mnist", {}), ("diamonds", {"augmentation": "clean"})])
def test_rows_that_do_not_fit_are_sent_batch_by_batch(device, name, changes):
    there = training(name, "moco", CUDA, ROWS, **changes)
    assert there.rows.device == HOST and there.labels.device == CUDA
    assert there.clean is None or there.clean.device == HOST
    step(there, device)


class Ops(TorchDispatchMode):
    """Note the names of all that is computed; within ``strict``, refuse what would wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.names, self.strict = set(), False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        assert not self.strict or name not in WAITING, f"{func} waits for the device"
        self.names.add(name)
        return func(*args, **kwargs or {})


def computed(training):
    """Take a step on the CPU, and return the names of what it computes; nothing after the loss may wait."""
    forward, training.check = training.step_loss, lambda: None
    with Ops() as ops:

        def step_loss(rows):
            loss = forward(rows)
            ops.strict = True
            return loss

        training.step_loss = step_loss
        training.run_step()
    return ops.names


def not_deterministic():
    """Beginnings of the names of what torch's documentation lists as without a deterministic version for CUDA."""
    text = inspect.getdoc(torch.use_deterministic_algorithms)
    text = text[text.index("operations will throw a") : text.index("In addition")]
    names = re.findall(r"\* :\w+:`torch\.(?:\w+\.)*(\w+)`", text)
    names = [re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower() for name in names]
    return tuple({"interpolate": "upsample", "grid_sample": "grid_sampler"}.get(name, name) for name in names)


def test_the_list_of_what_is_not_deterministic_is_read():
    assert {"avg_pool3d", "nll_loss", "ctc_loss", "upsample", "put_", "histc", "median"} <= set(not_deterministic())


@pytest.mark.parametrize("name", DOMAINS)
@pytest.mark.parametrize("method", METHODS)
def test_a_step_is_deterministic_on_cuda_and_its_backward_pass_does_not_wait(method, name):
    kinds = [{}, {"mix": "icutmix"}] if name == "mnist" else list(KINDS.values()) if name == "diamonds" else [{}]
    for changes in kinds:
        if method != "supervised" or changes.get("mix_inputs") != "both":
            found = computed(training(name, method, **changes))
            assert not [op for op in found if op.lstrip("_").startswith(not_deterministic())]
            assert {"convolution_backward", "mm"} & found and {"lerp_", "_fused_sgd_"} & found


@pytest.mark.parametrize("name", ["mnist", "diamonds"])
def test_an_evaluation_is_deterministic_on_cuda(name):
    mine = training(name, "npair")
    probe = cells.probe(name).model_copy(update={"epochs": 2, "milestones": [1], "copies": int(name == "mnist")})
    with Ops() as ops:
        evaluation.evaluate(mine.method.encoder, mine.dataset, mine.settings.views, probe, 0)
    assert not [op for op in ops.names if op.lstrip("_").startswith(not_deterministic())]


def test_a_compiled_training_is_the_same_program(monkeypatch):
    """With a compiler that only traces; seconds of compiling are part of the training's."""
    compiled, original = [], nn.Module.compile

    def traced(module):
        compiled.append(module)
        original(module, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", traced)
    for method, networks in (("npair", 1), ("moco", 2)):
        eager = training("diamonds", method)
        mine = training("diamonds", method, compile=True)
        assert len(compiled) == networks
        for each in (eager, mine):
            each.run_step()
        states = [each.state()[0] for each in (eager, mine)]
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
        compiled.clear()
    torch.compiler.reset()


@pytest.mark.parametrize(
    "device,workers,number,free",
    [
        ("", "", 2, 8000),
        ("cuda", "", 2, 8000),
        ("cuda:1", "", 1, 8000),
        ("", "6", 6, 8000 / 3),
        ("cuda:1", "4", 4, 2000),
    ],
)
def test_processes_share_the_gpus(monkeypatch, device, workers, number, free):
    """Two GPUs, with 8,000 bytes free on each."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8000, 10_000))
    monkeypatch.setenv("IMIX_DEVICE", device)
    monkeypatch.setenv("IMIX_WORKERS", workers)
    assert runtime.workers() == number
    assert runtime.free_memory(CUDA) == free and math.isinf(runtime.free_memory(HOST))


@pytest.mark.parametrize("rows,fits", [(200, True), (201, False)])
def test_rows_are_on_the_device_if_they_take_a_tenth_of_it(device, monkeypatch, rows, fits):
    monkeypatch.setattr(runtime, "free_memory", lambda device: 8000)
    tensors = {name: torch.zeros(count) for name, count in (("train", rows - 100), ("validation", 50), ("test", 50))}
    placed = dataset._placed(tensors | {"mean": torch.zeros(9)}, CUDA)
    assert {placed[name].device == CUDA for name in tensors} == {fits} and placed["mean"].device == CUDA
