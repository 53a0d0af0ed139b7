"""Operations and memory of trainings and evaluations, counted from their settings.

Networks are run on torch's meta device, on which nothing is computed, whatever their size. A multiplication and an
addition are two operations.
"""

import math
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from imix import settings
from imix.encoders import make_encoder
from imix.evaluation import ALIGNED_ROWS, FEW_LABELS
from imix.features import BATCH, PAIR_ROWS, SPREAD_ROWS
from imix.methods import METHODS
from imix.mixing import mixed_loss
from imix.planning.forms import Form

# settings that change what a training gives, not what one of its steps costs
FREE = {"epochs", "learning_rate", "momentum", "weight_decay", "warmup_epochs", "schedule", "milestones", "knn_every", "fraction"}
FREE |= {"temperature", "ema", "alpha"}
# those that change no operation of the network and its loss, either
FREE_OF_PRODUCTS = FREE | {"mix", "views", "inputmix", "augment", "shared_lam", "mix_inputs", "mix_depth", "mix_labels"}


class Step(NamedTuple):
    """One step of a training: operations; bytes of weights, their companions and what the backward pass keeps."""

    operations: float
    memory: float


class Encoding(NamedTuple):
    """One row's way through an encoder, without gradient: operations, features; bytes of its largest layers and of the weights."""

    operations: float
    features: int
    activations: float
    weights: float


class Evaluation(NamedTuple):
    """What one evaluation does: rows through the encoder, steps of all probes at once, their and the other figures' operations."""

    rows: int
    steps: int
    probes: float
    figures: float
    memory: float  # bytes: features, a batch in the encoder, weights


def remembered(function: Callable) -> Callable:
    """Keep results by what of their arguments is counted; settings hold lists, which cannot be keys."""
    known: dict[str, Any] = {}

    @wraps(function)
    def wrapper(*inputs: Any) -> Any:
        key = repr([each.model_dump(exclude=FREE_OF_PRODUCTS) if isinstance(each, settings.Strict) else each for each in inputs])
        if key not in known:
            known[key] = function(*inputs)
        return known[key]

    return wrapper


@remembered
def count(method: str, cell: settings.Pretraining, rows: Form) -> Step:
    """Operations (a multiplication and an addition are two) and memory of one step, counted on the meta device."""
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    with torch.device("meta"):
        encoder = make_encoder(cell.encoder, rows.seen, rows.column_groups)
        network = METHODS[method](encoder, encoder.features, cell, rows.classes)
        anchors, keys = (torch.empty(cell.batch_size, *rows.seen) for _ in (0, 1))
        if network.supervised:
            keys = torch.zeros(cell.batch_size, dtype=torch.int64)
        label = torch.arange(cell.batch_size)
        with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            with torch.autocast("cpu", torch.bfloat16, enabled=cell.precision == "bfloat16"):
                loss = network(anchors, keys, torch.Generator())
            mixed_loss(loss, label, torch.ones(cell.batch_size)).backward()
    weights = {z.untyped_storage()._cdata: z.nbytes for z in (*network.parameters(), *network.buffers())}
    trained = sum(p.nbytes for p in network.parameters() if p.requires_grad)
    activations = sum(storage.nbytes() for name, storage in kept.items() if name not in weights)
    passes = 1 + cell.symmetric
    return Step(passes * counter.get_total_flops(), sum(weights.values()) + 2 * trained + passes * activations)  # gradients, momentum


@remembered
def encoding(domain: settings.Domain, rows: Form) -> Encoding:
    """Count one row's way through an encoder, on the meta device."""
    sizes = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sizes.append(output.nbytes / len(output))

    with torch.device("meta"), torch.no_grad():
        encoder = make_encoder(domain.encoder, rows.seen, rows.column_groups).eval()
        for module in encoder.modules():
            module.register_forward_hook(note)
        with FlopCounterMode(display=False) as counter:
            encoder(torch.empty(2, *rows.seen))
    weights = sum(z.nbytes for z in (*encoder.parameters(), *encoder.buffers()))
    return Encoding(counter.get_total_flops() / 2, encoder.features, 3 * max(sizes), weights)  # input, branch and output of a block


def raw(rows: Form) -> Encoding:
    """The raw inputs as features."""
    return Encoding(0, math.prod(rows.seen), 4 * math.prod(rows.seen), 0)


def evaluation(encoder: Encoding, rows: Form, probe: settings.Probe) -> Evaluation:
    """Count what `imix.evaluation.evaluate` does: features of all rows, probes at all rates, kNN, decompositions."""
    own = 0 if rows.carved else rows.validation
    few = [math.ceil(rows.fit * share) for share in FEW_LABELS.values()]
    sizes = [rows.fit, *few] + [rows.train] * rows.carved
    weights = (encoder.features + 1) * rows.classes * len(probe.rates)
    predicted = rows.train + (1 + len(few)) * (rows.validation + rows.test)
    return Evaluation(
        rows=rows.train * (1 + probe.copies) + own + rows.test + 2 * min(ALIGNED_ROWS, rows.test),
        steps=probe.epochs * sum(math.ceil(size / probe.batch_size) for size in sizes),
        probes=weights * (4 * probe.epochs * sum(sizes) + 2 * predicted),  # an epoch: logits and gradient
        figures=figures(rows.train, rows.test, encoder.features),
        memory=4 * encoder.features * (rows.train * (1 + probe.copies) + own + rows.test) + BATCH * encoder.activations + encoder.weights,
    )


def figures(train: int, test: int, features: int) -> float:
    """Operations of kNN, uniformity, rank and Fréchet distance, of the decompositions by their leading terms."""

    def decomposed(rows: int) -> float:
        rows = min(rows, 2 * SPREAD_ROWS)
        return max(rows, features) * min(rows, features) ** 2

    pairs = min(test, 2 * PAIR_ROWS) ** 2 / 2
    return features * (2 * train * test + 3 * pairs) + 6 * decomposed(test) + 2 * decomposed(train) + 6 * features**3
