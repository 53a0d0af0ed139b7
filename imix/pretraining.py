"""The training loop: order of the rows, views, mixing, loss, step.

`Training` is one training, `run` runs it to its end. `run` saves its state now and then, so that a
later process can continue after a kill. The history has one line per epoch.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from imix import domains, mixing, plugins, runtime
from imix.dataset import Dataset, nested_rows
from imix.errors import Stopped, UserError
from imix.features import BATCH, COLLAPSED, extract, feature_std, knn_accuracy
from imix.methods import base
from imix.progress import Report, say, silent
from imix.sending import send

MONITOR_NEIGHBOURS = 20  # k of the kNN that watches a training


class Streams(NamedTuple):
    """Independent host generators of one training.

    Mixing draws from a generator of its own. So plain and i-Mix training of one seed see the same
    rows and views, and their difference is a paired one.
    """

    order: torch.Generator
    views: torch.Generator
    mixing: torch.Generator


def streams(seed: int) -> Streams:
    """Seed the generators of a training, each from its own place in the seed's sequence."""
    seeds = torch.randint(2**62, (len(Streams._fields),), generator=torch.Generator().manual_seed(seed))
    return Streams(*(torch.Generator().manual_seed(int(s)) for s in seeds))


def learning_rate(step: int, steps: int, settings: base.Settings) -> float:
    """Return the learning rate at a step, counted from 0 over the whole training.

    The peak is the base rate x batch / 256. The schedule changes per epoch: a cosine to 0, or x 0.1
    at each milestone. Before it, the warm-up rises linearly per step, from 0 to the schedule's
    value at the warm-up's end.

    Args:
        steps: of an epoch.
    """
    peak = settings.learning_rate * settings.batch_size / 256

    def scheduled(epoch: int) -> float:
        if settings.schedule == "step":
            return peak * 0.1 ** sum(epoch >= milestone for milestone in settings.milestones)
        return peak * 0.5 * (1 + math.cos(math.pi * epoch / settings.epochs))

    warmup = settings.warmup_epochs * steps
    return scheduled(settings.warmup_epochs) * (step + 1) / warmup if step < warmup else scheduled(step // steps)


def mix_views(
    anchors: Tensor, keys: Tensor, settings: base.Settings, generator: torch.Generator
) -> tuple[Tensor, Tensor, mixing.Mixture | None]:
    """Return both views (N, ...) after mixing, and the mixture that labels are mixed by.

    By default the first view is mixed; ``mix_inputs`` may say both or neither. The mixture is None
    where labels are not mixed. With ``mix_depth: hidden`` the views come back unmixed: `Training`
    mixes features inside the encoder.
    """
    if settings.mix == "none":
        return anchors, keys, None
    if settings.mix == "icutmix":
        mixture = mixing.cutmix(anchors, settings.alpha, groups=settings.groups, generator=generator)
    else:
        mixture = mixing.mixup(
            anchors, settings.alpha, groups=settings.groups, shared=settings.shared_lam, generator=generator
        )
    if settings.mix_inputs == "both":
        keys = mixing.blend(keys, keys[mixture.partner], mixture.lam)
    mixed = settings.mix_inputs != "neither" and settings.mix_depth == "input"
    return mixture.inputs if mixed else anchors, keys, mixture if settings.mix_labels else None


class Training:
    """One training: everything that changes while it runs, so that it can be saved and continued.

    Args:
        dataset: on the device that trains. method: its name.
        settings: an instance of `imix.domains.training_class`, of the method and the data set's
            domain.
        seed: of weights, order, views and mixing.

    Raises:
        UserError: fewer training rows than one batch.
    """

    def __init__(self, dataset: Dataset, method: str, settings: base.Settings, seed: int) -> None:
        torch.manual_seed(seed)
        runtime.set_precision(settings.precision)
        kind = plugins.find("methods", method).Method  # the method's class
        # Validation rows choose the probe's rate later, by their labels. So training with labels
        # leaves these rows out; training without labels may use them.
        rows = (dataset.fit, dataset.fit_labels) if kind.supervised else dataset.pretraining_rows()
        if settings.fraction < 1:
            chosen = nested_rows(rows[1], settings.fraction, seed)
            rows = rows[0][chosen], rows[1][chosen]
        self.rows, self.labels = rows
        if len(self.rows) < settings.batch_size:
            raise UserError(
                f"params.yaml: batch_size = {settings.batch_size}: must be at most the {len(self.rows)} training rows"
            )
        self.dataset, self.settings, self.device = dataset, settings, dataset.device
        self.views = domains.make_views(dataset.kind, settings.views, dataset)
        encoder = domains.make_encoder(dataset.kind, settings.encoder, dataset)
        self.method = kind(encoder, settings, len(dataset.classes)).to(self.device)
        if settings.compile:
            self._compile()
        # clean rows are the same in every epoch: computed once
        self.clean = self._cleaned(self.rows) if settings.augmentation == "clean" else None
        self.steps = len(self.rows) // settings.batch_size
        self.items = self.steps * settings.batch_size * settings.epochs
        trained = [p for p in self.method.parameters() if p.requires_grad]
        self.optimiser = torch.optim.SGD(
            trained, lr=0.0, momentum=settings.momentum, weight_decay=settings.weight_decay, fused=True
        )
        self.streams: Streams = streams(seed)
        self.epoch = self.step = 0  # epochs finished, and steps of the present one
        self.order = torch.empty(0, dtype=torch.int64)  # of the present epoch's rows
        self.total = torch.zeros((), device=self.device)  # of the present epoch's losses
        self.history: list[dict[str, float]] = []
        self.seconds = 0.0  # of training, those before a kill included

    def _compile(self) -> None:
        """Compile the encoder and the key encoder, at their first calls.

        Weights keep their names.
        """
        self.method.encoder.compile()
        if self.method.keys is not None:
            self.method.keys.network.compile()

    def _cleaned(self, rows: Tensor) -> Tensor:
        """Return rows, where they were, as the encoder sees them without augmentation.

        They are computed in blocks.
        """
        blocks = (self.views.clean(send(block, self.device)) for block in rows.split(BATCH))
        return torch.cat([block.to(rows.device) for block in blocks])

    @cached_property
    def _watched(self) -> list[Tensor]:
        """The clean rows that `_monitor` encodes, computed once: training and validation rows."""
        return [self._cleaned(rows) for rows in (self.dataset.fit, self.dataset.validation)]

    def step_loss(self, rows: Tensor) -> Tensor:
        """Return the loss () of one batch of row indices (N,)."""
        stored = self.rows if self.clean is None else self.clean
        # Where rows are on the host, these lines run ahead of the device: a batch is there when its
        # step begins.
        batch = send(stored[send(rows, stored.device)], self.device)
        self.method.follow()
        anchors = self._view(batch, 0)
        # second views, which a method turns into keys; a supervised method takes class labels
        keys = self.labels[send(rows, self.device)] if self.method.supervised else self._view(batch, 1)
        loss = self._loss(anchors, keys)
        return (loss + self._loss(keys, anchors)) / 2 if self.settings.symmetric else loss

    def _view(self, batch: Tensor, which: int) -> Tensor:
        """Return one view of a batch, with InputMix where set."""
        s = self.settings
        view = self.views(batch, which, self.streams.views) if self.clean is None else batch
        if not s.inputmix:
            return view
        return mixing.inputmix(view, s.inputmix, groups=s.groups, generator=self.streams.mixing)

    def _loss(self, anchors: Tensor, keys: Tensor) -> Tensor:
        s = self.settings
        anchors, keys, mixture = mix_views(anchors, keys, s, self.streams.mixing)
        with ExitStack() as stack:
            if s.precision == "bfloat16":
                stack.enter_context(torch.autocast(self.device.type, torch.bfloat16))
            if s.mix_depth == "hidden" and mixture is not None:
                blocks = self.method.encoder.blocks
                block = blocks[int(torch.randint(len(blocks), (), generator=self.streams.mixing))]
                stack.enter_context(mixing.mixes_hidden(block, mixture, s.groups))
            loss = self.method(anchors, keys, self.streams.mixing)
        if mixture is None:
            return loss(torch.arange(len(anchors), device=self.device)).mean()
        return mixing.mixed_loss(loss, mixture.partner, mixture.lam)

    def run_step(self) -> None:
        """Train on the next batch.

        After the last batch of an epoch, add a line to the history. Rows that fill no batch are
        left out; the next epoch has another order.

        Raises:
            UserError: the loss is no longer finite.
        """
        if self.step == 0:
            self.method.train()
            self.order = torch.randperm(len(self.rows), generator=self.streams.order)
            self.total.zero_()
        rows = self.order[self.step * self.settings.batch_size :][: self.settings.batch_size]
        rate = learning_rate(self.epoch * self.steps + self.step, self.steps, self.settings)
        self.optimiser.param_groups[0]["lr"] = rate
        loss = self.step_loss(rows)
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.total += loss.detach()
        self.step += 1
        if self.device.type == "cpu":  # on a GPU at the end of the epoch: a check waits for the device
            self.check()
        if self.step == self.steps:
            self.check_all()
            self.epoch, self.step = self.epoch + 1, 0
            mean = float(self.total) / self.steps
            self.history.append({"epoch": self.epoch, "loss": mean, "learning_rate": rate, **self._monitor()})

    def done(self) -> int:
        """Return how many items were trained on so far, of ``self.items`` in all."""
        return (self.epoch * self.steps + self.step) * self.settings.batch_size

    def check(self) -> None:
        """Raise UserError where a loss of this epoch was not finite; synchronises."""
        if not math.isfinite(float(self.total)):
            self._diverged("the loss is")

    def check_all(self) -> None:
        """Raise UserError where the loss, a weight, a statistic or a key is not finite.

        Such a state is not saved.
        """
        self.check()
        if not torch.stack([tensor.isfinite().all() for tensor in self.method.state_dict().values()]).all():
            self._diverged("weights are")

    def _diverged(self, what: str) -> NoReturn:
        step = self.epoch * self.steps + self.step - 1  # the last one taken
        raise UserError(
            f"{what} not finite at step {step + 1} (epoch {step // self.steps + 1}), at a learning rate of "
            f"{learning_rate(step, self.steps, self.settings):.4g}: lower learning_rate, or look at the data"
        )

    def _monitor(self) -> dict[str, float]:
        """Return kNN accuracy on validation rows, spread of features, and whether they collapsed.

        They are measured every ``knn_every`` epochs and at the end; NaN in between.
        """
        if self.epoch % self.settings.knn_every and self.epoch < self.settings.epochs:
            return {"knn_validation": math.nan, "feature_std": math.nan, "collapsed": math.nan}
        data, accuracy = self.dataset, math.nan
        fit, validation = (extract(self.method.encoder, inputs, device=self.device) for inputs in self._watched)
        if data.labelled:
            labels = data.fit_labels, data.validation_labels
            accuracy = knn_accuracy(fit, labels[0], validation, labels[1], neighbours=MONITOR_NEIGHBOURS)
        spread = feature_std(fit)
        if spread < COLLAPSED:
            say(f"warning: collapsed: after epoch {self.epoch} the features' spread is {spread:.2g}")
        return {"knn_validation": accuracy, "feature_std": spread, "collapsed": int(spread < COLLAPSED)}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what a later process needs to continue exactly: tensors by name, and facts."""
        tensors = {f"method.{name}": tensor for name, tensor in self.method.state_dict().items()}
        for number, parameter in enumerate(self.optimiser.param_groups[0]["params"]):
            velocity = self.optimiser.state[parameter].get("momentum_buffer")
            if velocity is not None:  # None before the first step
                tensors[f"velocity.{number}"] = velocity
        tensors |= {f"stream.{name}": generator.get_state() for name, generator in self.streams._asdict().items()}
        facts = {"epoch": self.epoch, "step": self.step, "seconds": self.seconds, "history": self.history}
        return tensors | {"order": self.order, "total": self.total}, facts

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        own = {name.removeprefix("method."): tensor for name, tensor in tensors.items() if name.startswith("method.")}
        self.method.load_state_dict(own)
        for number, parameter in enumerate(self.optimiser.param_groups[0]["params"]):
            if (velocity := tensors.get(f"velocity.{number}")) is not None:
                # in the parameter's memory format: fused SGD goes through both as they are stored
                self.optimiser.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(velocity)
        for name, generator in self.streams._asdict().items():
            generator.set_state(tensors[f"stream.{name}"])
        self.order = tensors["order"]
        self.total.copy_(tensors["total"])
        self.epoch, self.step, self.seconds, self.history = (
            facts[key] for key in ("epoch", "step", "seconds", "history")
        )


def run(
    training: Training,
    label: str,
    save: Callable[[dict[str, Tensor], dict[str, Any]], None] = lambda tensors, facts: None,
    save_seconds: float = math.inf,
    report: Report = silent,
    signals: Sequence[int] = (),
) -> None:
    """Train to the end.

    Args:
        label: what errors name.
        save: takes the training's state, every ``save_seconds`` and on a signal.
        report: takes progress after every step: items done, items in all, and the epoch as text.
        signals: the list that signals are noted in (`imix.errors.noted_signals`).

    Raises:
        UserError: a loss that is not finite.
        Stopped: a signal was noted; the step was finished and the state saved.
    """
    began, before = time.monotonic(), training.seconds
    last = began
    report(training.done(), training.items, _place(training))
    while training.epoch < training.settings.epochs:
        try:
            training.run_step()
            now = time.monotonic()
            training.seconds = before + now - began
            stop = bool(signals)  # read once: one that comes during the save is for after the next step
            if saves := stop or now - last >= save_seconds:
                training.check_all()
        except UserError as error:
            raise UserError(f"{label}: {error}") from None
        if saves:
            save(*training.state())
            last = time.monotonic()
        if stop:
            raise Stopped(signals[0], f"{label}: stopped after epoch {training.epoch}, step {training.step}")
        report(training.done(), training.items, _place(training))


def _place(training: Training) -> str:
    """Return how far a training is: the present epoch, and the loss of the last finished one."""
    epochs = training.settings.epochs
    loss = f", loss {training.history[-1]['loss']:.4f}" if training.history else ""
    return f"epoch {min(training.epoch + 1, epochs)}/{epochs}{loss}"


def history_csv(history: list[dict[str, float]]) -> str:
    """Return the history as CSV, one row an epoch; values that were not measured are empty."""
    lines = [",".join(history[0])]
    lines += [",".join("" if math.isnan(value) else repr(value) for value in row.values()) for row in history]
    return "\n".join(lines) + "\n"
