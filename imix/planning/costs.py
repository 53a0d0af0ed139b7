"""Operations and memory of trainings and evaluations, counted from their settings.

Networks run on torch's meta device, which computes nothing: counting takes moments whatever their size. A
multiplication and an addition are two operations. Views and element-wise work are not counted.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from imix import plugins
from imix.dataset import Form
from imix.evaluation import ALIGNED_ROWS, FEW_LABELS, Probe
from imix.features import BATCH
from imix.methods import base
from imix.schema import Strict


class Encoding(NamedTuple):
    """The costs of an encoder: operations and bytes of one row; bytes of the encoder itself."""

    features: int  # width of the output
    forward: float = 0.0  # operations of the forward pass
    both: float = 0.0  # operations of the forward and the backward pass
    kept: float = 0.0  # bytes that the forward pass keeps for the backward pass
    largest: float = 0.0  # bytes of the largest layers that are needed at once without a backward pass
    weights: float = 0.0  # bytes of parameters and BatchNorm statistics


@contextmanager
def _counted(network: nn.Module, half: bool) -> Iterator[dict[str, float]]:
    """Yield a dictionary that gets the operations of what runs, and the bytes kept for its backward pass."""
    own = {id(z.untyped_storage()): z.untyped_storage() for z in (*network.parameters(), *network.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}  # an id is unique while its storage is referenced
    result: dict[str, float] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[id(tensor.untyped_storage())] = tensor.untyped_storage()
        return tensor

    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(note, lambda z: z):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            yield result
    result["operations"] = counter.get_total_flops()
    result["kept"] = sum(storage.nbytes() for key, storage in kept.items() if key not in own)


def _bytes(network: nn.Module) -> int:
    return sum(z.nbytes for z in (*network.parameters(), *network.buffers()))


@cache
def encoding(kind: str, settings: Strict, shape: tuple[int, ...], groups: tuple[int, ...], half: bool) -> Encoding:
    """Count an encoder's work on one row of a domain (``kind``).

    Args:
        settings: the encoder's. shape: of a stored row. groups: columns of each group. half: bfloat16.
    """
    views, sizes = plugins.find("views", kind), []
    seen = views.seen(shape)
    with torch.device("meta"):
        network, rows = views.Encoder.make(settings, seen, groups), torch.empty(2, *seen)
    for module in network.modules():
        module.register_forward_hook(lambda module, inputs, output: sizes.append(output.nbytes / 2))
    with _counted(network, half) as forward, torch.no_grad():
        network(rows)
    with _counted(network, half) as both:
        network(rows).sum().backward()
    largest = 3 * max(sizes)  # a residual block has its input, its branch and its output at once
    operations = forward["operations"] / 2, both["operations"] / 2
    return Encoding(network.features, *operations, both["kept"] / 2, largest, _bytes(network))


class _Stub(nn.Module):
    """Take the place of an encoder that is counted by itself; note the rows that pass with and without gradient."""

    def __init__(self, features: int, passed: dict[bool, int]) -> None:
        super().__init__()
        self.features, self.passed = features, passed

    def __deepcopy__(self, memo: dict) -> "_Stub":
        return _Stub(self.features, self.passed)  # a key encoder's copy notes its rows in the same place

    def forward(self, rows: Tensor) -> Tensor:
        grad = torch.is_grad_enabled()
        self.passed[grad] += len(rows)
        return torch.empty(len(rows), self.features, device="meta", requires_grad=grad)


def step(method: str, settings: base.Settings, encoder: Encoding, classes: int) -> tuple[float, float]:
    """Return operations and memory of one step: weights, gradients, momentum, and what the backward pass needs."""
    passed, size = {True: 0, False: 0}, settings.batch_size
    with torch.device("meta"):
        network = plugins.find("methods", method).Method(_Stub(encoder.features, passed), settings, classes)
        keys = torch.zeros(size, dtype=torch.int64) if network.supervised else torch.empty(size, 1)
        anchors, own = torch.empty(size, 1), torch.arange(size)
    with _counted(network, settings.precision == "bfloat16") as found:
        network(anchors, keys, torch.Generator())(own).mean().backward()
    copies = sum(isinstance(module, _Stub) for module in network.modules())  # with a key encoder's
    trained = 2 * sum(p.nbytes for p in network.parameters() if p.requires_grad)
    weights = _bytes(network) + trained + (copies + 2) * encoder.weights
    passes = 2 if settings.symmetric else 1
    operations = found["operations"] + passed[True] * encoder.both + passed[False] * encoder.forward
    return passes * operations, weights + passes * (found["kept"] + passed[True] * encoder.kept)


def evaluation(encoder: Encoding, form: Form, probe: Probe) -> tuple[float, float]:
    """Return operations and memory of what `imix.evaluation.evaluate` does: features, probes, neighbours."""
    stored = form.train * (1 + probe.copies) + (0 if form.carved else form.validation) + form.test
    sizes = [form.fit, *(math.ceil(form.fit * share) for share in FEW_LABELS.values())] + [form.train] * form.carved
    predicted = form.train + (1 + len(FEW_LABELS)) * (form.validation + form.test)
    # an epoch of a probe computes logits and a gradient
    probes = (encoder.features + 1) * form.classes * len(probe.rates) * (4 * probe.epochs * sum(sizes) + 2 * predicted)
    encoded = (stored + 2 * min(ALIGNED_ROWS, form.test)) * encoder.forward
    memory = 4 * encoder.features * stored + BATCH * encoder.largest + encoder.weights
    return encoded + probes + 2 * encoder.features * form.train * form.test, memory
