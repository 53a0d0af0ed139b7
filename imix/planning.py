"""What a grid will cost before it is paid: steps, floating-point operations, memory, and hours from a few timed steps.

Operations are counted on torch's meta device, on which nothing is computed, whatever the size of the network.
"""

import hashlib
import json
import platform
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from imix import settings
from imix.datasets import Dataset
from imix.encoders import make_encoder
from imix.errors import UserError
from imix.files import encoder_folder, write_json
from imix.methods import METHODS
from imix.mixing import mixed_loss
from imix.pretraining import Training

STEPS = 3  # timed ones, after one that is not
LARGEST = 4e11  # operations of a timed step; of larger ones, a smaller batch is timed and scaled


class Form(NamedTuple):
    """What the rows of a source look like."""

    rows: int  # training rows; those that the settings take
    shape: tuple[int, ...]  # stored
    dtype: torch.dtype
    classes: int
    column_groups: tuple[int, ...] = ()
    validation: float = 0  # share of the training rows that supervised training goes without


FORMS = {
    "mnist": Form(0, (1, 0, 0), torch.uint8, 10),
    "segment": Form(0, (18,), torch.float32, 7, (18,)),
    "spoken": Form(0, (16_000,), torch.int16, 12),
    "cifar10": Form(0, (3, 32, 32), torch.uint8, 10),
    "cifar100": Form(0, (3, 32, 32), torch.uint8, 100),
    "speech_commands": Form(0, (16_000,), torch.int16, 12),
    "covtype": Form(0, (54,), torch.float32, 7, (10, 4, 40)),
}


class Step(NamedTuple):
    """One step of a training: operations, bytes of weights, their companions and what the backward pass keeps."""

    operations: float
    memory: float


class Plan(NamedTuple):
    """The trainings of one cell: how many in all and still to do, steps of each, and what a step costs; ``seconds`` if known."""

    dataset: str
    method: str
    mix: str
    trainings: int
    left: int
    steps: int
    step: Step
    seconds: float  # a step


def form(params: settings.Params, dataset: str) -> Form:
    """The form of a data set's rows, as many as its settings take."""
    source, rows = settings.data(params, dataset)
    found, chosen = settings.entry(FORMS, source.name, "imix/planning.py: FORMS"), rows.model_dump()
    shape = (1, chosen["canvas"], chosen["canvas"]) if "canvas" in chosen else found.shape
    validation = chosen.get("validation")
    return found._replace(
        rows=settings.splits(source, rows)["train"], shape=shape, validation=validation if isinstance(validation, float) else 0
    )


def seen(rows: Form) -> tuple[int, ...]:
    """The shape that an encoder sees."""
    return (1, 32, 32) if rows.dtype == torch.int16 else rows.shape


def count(method: str, cell: settings.Pretraining, rows: Form) -> Step:
    """Operations (a multiplication and an addition are two) and memory of one step, counted on the meta device."""
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    with torch.device("meta"):
        encoder = make_encoder(cell.encoder, seen(rows), rows.column_groups)
        network = METHODS[method](encoder, encoder.features, cell, rows.classes)
        anchors, keys = (torch.empty(cell.batch_size, *seen(rows)) for _ in (0, 1))
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


def random_dataset(rows: Form, size: int, device: torch.device) -> Dataset:
    """``size`` rows of noise in a data set's form."""
    numbers = rows.column_groups[0] if rows.column_groups else 0
    statistics = numbers or (rows.shape[0] if len(rows.shape) == 3 else 1)
    noise = torch.randn(size, *rows.shape)
    inputs = (noise * 50 + 128).clamp(0, 255) if rows.dtype == torch.uint8 else noise * (1000 if rows.dtype == torch.int16 else 1)
    inputs, labels = inputs.to(rows.dtype).to(device), (torch.arange(size) % rows.classes).to(device)
    names = ("train", "fit", "validation", "test")
    return Dataset(
        **dict.fromkeys(names, inputs),
        **{f"{name}_labels": labels for name in names},
        mean=torch.zeros(statistics, device=device),
        std=torch.ones(statistics, device=device),
        background=torch.zeros(1, 16_000, dtype=torch.int16, device=device),
        classes=[str(k) for k in range(rows.classes)],
        carved=True,
        column_groups=list(rows.column_groups),
        numbers=numbers,
        sha256="",
        card={},
    )


def timed(method: str, cell: settings.Pretraining, rows: Form, step: Step, device: torch.device) -> float:
    """Seconds of one step on this machine, the median of `STEPS`, views included."""
    share = min(1.0, LARGEST / max(step.operations, 1))
    size = max(2 * cell.groups, int(cell.batch_size * share) // cell.groups * cell.groups)
    smaller = cell.model_copy(update={"batch_size": size, "fraction": 1.0})
    training = Training(random_dataset(rows, size, device), method, smaller, 0)
    seconds = []
    for _ in range(STEPS + 1):
        started = time.perf_counter()
        training.step_loss(torch.arange(size)).backward()
        training.optimiser.step(1e-6)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return sorted(seconds[1:])[STEPS // 2] * cell.batch_size / size


def plan(params: settings.Params, device: torch.device, rate: float | None, cache: Path) -> list[Plan]:
    """One line per cell of the grid.

    Args:
        device: to time steps on. rate: operations a second of another device, in place of timing this one.
        cache: file that timings are kept in.

    Raises:
        UserError: a batch larger than the rows, or a source whose form is not known here.
    """
    plans = []
    known: dict[str, float] = json.loads(cache.read_text()) if cache.exists() else {}
    code = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.rglob("*.py")))
    machine = [torch.__version__, str(device), torch.get_num_threads(), platform.node(), hashlib.sha256(code).hexdigest()]
    for dataset in params.grid.datasets:
        rows = form(params, dataset)
        for method in params.grid.methods:
            for mix in params.grid.mixes:
                cell = settings.resolve(params, dataset, method, mix)
                step = count(method, cell, rows)
                key = hashlib.sha256(json.dumps([cell.model_dump(), method, rows.shape, rows.classes, *machine]).encode()).hexdigest()
                if not rate and key not in known:
                    known[key] = timed(method, cell, rows, step, device)
                    write_json(cache, known)
                seconds = step.operations / rate if rate else known[key]
                left = [seed for seed in params.grid.seeds if not _done(encoder_folder(dataset, method, mix, seed), cell)]
                used = rows.rows * (1 - rows.validation if METHODS[method].supervised else 1)
                steps = cell.epochs * (round(used * cell.fraction) // cell.batch_size)
                if not steps:
                    raise UserError(
                        f"params.yaml: batch_size = {cell.batch_size}: must be at most the {used:.0f} training rows of {dataset}"
                    )
                plans.append(Plan(dataset, method, mix, len(params.grid.seeds), len(left), steps, step, seconds))
    return plans


def _done(folder: Path, cell: settings.Pretraining) -> bool:
    """Whether an encoder with these settings lies there."""
    try:
        found: dict[str, Any] = json.loads((folder / "provenance.json").read_text())
    except (OSError, ValueError):
        return False
    return bool(found.get("settings", {}).get("settings") == cell.model_dump())


def table(plans: list[Plan]) -> str:
    """The plan as text: a line per cell, and the total of what is left."""
    lines = [f"{'data':22}{'method':12}{'mix':9}{'left':>8}{'steps':>10}{'PFLOP':>10}{'GB':>8}{'hours':>10}{'hours left':>12}"]
    for p in plans:
        hours = p.steps * p.seconds / 3600
        lines.append(
            f"{p.dataset:22}{p.method:12}{p.mix:9}{f'{p.left} of {p.trainings}':>8}{p.steps:>10,}"
            f"{p.steps * p.step.operations / 1e15:>10,.3g}{p.step.memory / 1e9:>8.2f}{hours:>10.3g}{hours * p.left:>12.3g}"
        )
    left = sum(p.left for p in plans)
    operations = sum(p.left * p.steps * p.step.operations for p in plans) / 1e15
    hours = sum(p.left * p.steps * p.seconds for p in plans) / 3600
    lines.append(f"{left} of {sum(p.trainings for p in plans)} trainings left: {operations:,.4g} PFLOP, {hours:,.4g} hours")
    return "\n".join(lines) + "\n"
