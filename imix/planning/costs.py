"""Operations and memory of trainings and evaluations, counted from their settings.

Networks run on torch's meta device, which computes nothing: counting takes moments whatever their
size. A multiplication and an addition are two operations. Views and element-wise work are not
counted.
"""

import json
import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from imix import plugins
from imix.evaluation import ALIGNED_ROWS, FEW_LABELS, Probe
from imix.methods import base
from imix.schema import Strict
from imix.sources import Form

# settings that do not change a step's operations; those of TIMED may change its time
FREE = {"epochs", "learning_rate", "warmup_epochs", "schedule", "milestones", "knn_every", "fraction", "alpha"}
TIMED = {"augmentation", "mix", "views", "inputmix", "shared_lam", "mix_inputs", "mix_depth", "mix_labels", "compile"}


class Encoding(NamedTuple):
    """The costs of an encoder: operations and bytes of one row; bytes of the encoder itself."""

    features: int  # width of the output
    forward: float = 0.0  # operations of the forward pass
    both: float = 0.0  # operations of the forward and the backward pass
    kept: float = 0.0  # bytes that the forward pass keeps for the backward pass
    weights: float = 0.0  # bytes of parameters and BatchNorm statistics


def counted(network: nn.Module, loss: Callable[[], Tensor]) -> tuple[float, float, float]:
    """Return operations of ``loss``, those with its backward pass, and bytes kept for that."""
    own = {id(z.untyped_storage()): z.untyped_storage() for z in (*network.parameters(), *network.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}  # an id is unique while its storage is referenced

    def note(tensor: Tensor) -> Tensor:
        kept[id(tensor.untyped_storage())] = tensor.untyped_storage()
        return tensor

    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(note, lambda z: z):
        result = loss()
        forward = counter.get_total_flops()
        result.backward()
    return forward, counter.get_total_flops(), sum(one.nbytes() for key, one in kept.items() if key not in own)


def size(network: nn.Module) -> int:
    """Return the bytes of parameters and buffers."""
    return sum(z.nbytes for z in (*network.parameters(), *network.buffers()))


@cache
def encoding(kind: str, settings: Strict, shape: tuple[int, ...], groups: tuple[int, ...], half: bool) -> Encoding:
    """Count one row's way through an encoder.

    Args:
        kind: the domain. settings: the encoder's. shape: of a stored row. groups: of columns. half:
            in bfloat16.
    """
    views = plugins.find("views", kind)
    seen = views.seen(shape)
    with torch.device("meta"):
        network, rows = views.Encoder.make(settings, seen, groups), torch.empty(2, *seen)  # BatchNorm needs two
    weights = size(network)
    if half:  # autocast does nothing on the meta device
        network, rows = network.bfloat16(), rows.bfloat16()
    forward, both, kept = counted(network, lambda: network(rows).sum())
    return Encoding(network.features, forward / 2, both / 2, kept / 2, weights)


class Stub(nn.Module):
    """Take the place of an encoder that is counted by itself.

    Note the rows that pass with and without gradient.
    """

    def __init__(self, features: int, passed: dict[bool, int]) -> None:
        super().__init__()
        self.features, self.passed = features, passed

    def __deepcopy__(self, memo: dict) -> "Stub":
        return Stub(self.features, self.passed)  # a key encoder's copy notes its rows in the same place

    def forward(self, rows: Tensor) -> Tensor:
        """Return features without values, (N, ...) -> (N, features)."""
        self.passed[torch.is_grad_enabled()] += len(rows)
        return torch.empty(len(rows), self.features, device="meta", requires_grad=torch.is_grad_enabled())


def step_cost(method: str, settings: base.Settings, encoder: Encoding, classes: int) -> tuple[float, float]:
    """Return operations and bytes of one step.

    Bytes are of weights, gradients, momentum, and what the backward pass needs.
    """
    return _step_cost(method, settings.model_dump_json(exclude=FREE | TIMED), encoder, classes)


@cache
def _step_cost(method: str, needed: str, encoder: Encoding, classes: int) -> tuple[float, float]:
    settings = plugins.find("methods", method).Settings.model_construct(**json.loads(needed))
    passed, batch = {True: 0, False: 0}, settings.batch_size
    with torch.device("meta"):
        network = plugins.find("methods", method).Method(Stub(encoder.features, passed), settings, classes)
        keys = torch.zeros(batch, dtype=torch.int64) if network.supervised else torch.empty(batch, 1)
        anchors, own = torch.empty(batch, 1), torch.arange(batch)
    _, operations, kept = counted(network, lambda: network(anchors, keys, torch.Generator())(own).mean())
    encoders = sum(isinstance(module, Stub) for module in network.modules())  # a key encoder is another one
    weights = size(network) + encoders * encoder.weights
    weights += 2 * (encoder.weights + sum(p.nbytes for p in network.parameters() if p.requires_grad))
    operations += passed[True] * encoder.both + passed[False] * encoder.forward
    directions = 2 if settings.symmetric else 1
    return directions * operations, weights + directions * (kept + passed[True] * encoder.kept)


def evaluation_cost(encoder: Encoding, form: Form, probe: Probe) -> tuple[float, float]:
    """Return operations and bytes of one evaluation, `imix.evaluation.evaluate`.

    Counted are features, probes and neighbours.
    """
    stored = form.train * (1 + probe.copies) + (0 if form.carved else form.validation) + form.test
    few = [form.classes * math.ceil(form.fit / form.classes * share) for share in FEW_LABELS.values()]
    sizes = [form.fit, *few, *[form.train] * form.carved]
    predicted = encoder.features * (form.train + (1 + len(few)) * (form.validation + form.test))
    # an epoch of a probe computes logits and a gradient, with a column for the bias
    probes = form.classes * len(probe.rates) * (4 * (encoder.features + 1) * probe.epochs * sum(sizes) + 2 * predicted)
    encoded = (stored + 2 * min(ALIGNED_ROWS, form.test)) * encoder.forward
    operations = encoded + probes + 2 * encoder.features * form.train * form.test
    return operations, 4 * encoder.features * stored + encoder.weights
