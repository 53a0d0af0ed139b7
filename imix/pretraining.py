"""The training loop: order of the rows, views, mixing, loss, step; history, progress, and continuing after a kill."""

import math
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from imix import checkpoints, mixing, resuming
from imix.datasets import Dataset, nested_rows
from imix.errors import Stopped, UserError
from imix.features import COLLAPSED, extract, feature_std, knn_accuracy
from imix.methods import METHODS
from imix.progress import Progress
from imix.runtime import Streams, save_seconds, streams
from imix.settings import Pretraining

MONITOR_NEIGHBOURS = 20  # k of the kNN that watches a training
LOOK_EVERY = 100  # steps between two looks at the loss where looking waits for the device


def learning_rate(step: int, steps: int, settings: Pretraining) -> float:
    """The rate at a step, counted from 0, of ``steps`` an epoch (section 2).

    Base rate x batch / 256; per epoch, cosine to 0 or x 0.1 at milestones; before that a linear warm-up from 0, per step,
    that ends on the schedule's own value.
    """
    peak = settings.learning_rate * settings.batch_size / 256

    def scheduled(epoch: int) -> float:
        if settings.schedule == "step":
            return peak * 0.1 ** sum(epoch >= milestone for milestone in settings.milestones)
        return peak * 0.5 * (1 + math.cos(math.pi * epoch / settings.epochs))

    warmup = settings.warmup_epochs * steps
    return scheduled(settings.warmup_epochs) * (step + 1) / warmup if step < warmup else scheduled(step // steps)


class SGD:
    """SGD with momentum and weight decay on every parameter, fused over parameters; torch.optim.SGD, step for step.

    Making one of torch's own imports its compiler, 1.2 seconds that a short training cannot spare.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], momentum: float, weight_decay: float) -> None:
        self.parameters = list(parameters)
        self.momentum, self.weight_decay = momentum, weight_decay
        self.velocity = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """v <- momentum v + gradient + decay p;  p <- p - rate v.  Gradients are dropped."""
        gradients = [p.grad for p in self.parameters]
        # one pass over memory where foreach operations take four
        torch._fused_sgd_(
            self.parameters,
            gradients,
            self.velocity,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            lr=rate,
            dampening=0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
        )
        for p in self.parameters:
            p.grad = None


def mix_views(
    anchors: Tensor, keys: Tensor, settings: Pretraining, generator: torch.Generator
) -> tuple[Tensor, Tensor, mixing.Mixture | None]:
    """Mix the first view (N, ...), or as set: anchors, keys and, where labels are mixed, the mixture. Hidden features are mixed later."""
    if settings.mix == "none":
        return anchors, keys, None
    if settings.mix == "icutmix":
        mixture = mixing.cutmix(anchors, settings.alpha, groups=settings.groups, generator=generator)
    else:
        mixture = mixing.mixup(anchors, settings.alpha, groups=settings.groups, shared=settings.shared_lam, generator=generator)
    if settings.mix_inputs == "both":
        keys = mixing.blend(keys, keys[mixture.partner], mixture.lam)
    mixed = settings.mix_inputs != "neither" and settings.mix_depth == "input"
    return mixture.inputs if mixed else anchors, keys, mixture if settings.mix_labels else None


class Training:
    """One training: everything that changes while it runs, so that it can be saved and continued.

    Args:
        dataset: on the device. method: its name. settings: of this cell. seed: of weights, order, views and mixing.

    Raises:
        UserError: fewer training rows than one batch.
    """

    def __init__(self, dataset: Dataset, method: str, settings: Pretraining, seed: int) -> None:
        torch.manual_seed(seed)
        kind = METHODS[method]
        # a probe's rate is chosen on the validation rows: their labels are not for training
        self.rows, self.labels = (dataset.fit, dataset.fit_labels) if kind.supervised else (dataset.train, dataset.train_labels)
        if settings.fraction < 1:
            chosen = nested_rows(self.labels, settings.fraction, seed).to(self.rows.device)
            self.rows, self.labels = self.rows[chosen], self.labels[chosen]
        if len(self.rows) < settings.batch_size:
            raise UserError(f"params.yaml: batch_size = {settings.batch_size}: must be at most the {len(self.rows)} training rows")
        self.dataset, self.settings = dataset, settings
        self.device = dataset.train.device
        encoder, self.views = checkpoints.build(settings, dataset)
        self.method = kind(encoder, encoder.features, settings, len(dataset.classes)).to(self.device)
        self.steps = len(self.rows) // settings.batch_size
        self.items_per_epoch = self.steps * settings.batch_size
        trained = [p for p in self.method.parameters() if p.requires_grad]
        self.optimiser = SGD(trained, settings.momentum, settings.weight_decay)
        self.streams: Streams = streams(seed)
        self.epoch = self.step = 0  # epochs finished, and steps of the present one
        self.order = torch.empty(0, dtype=torch.int64)  # of the present epoch's rows
        self.total = torch.zeros((), device=self.device)  # of the present epoch's losses
        self.history: list[dict[str, float]] = []
        self.seconds = 0.0  # of training, those before a kill included

    def step_loss(self, rows: Tensor) -> Tensor:
        """The loss () of one batch of row indices (N,)."""
        rows = rows.to(self.device)
        batch = self.rows[rows]
        self.method.follow()
        anchors = self._view(batch, 0)
        keys = self.labels[rows] if self.method.supervised else self._view(batch, 1)
        loss = self._loss(anchors, keys)
        return (loss + self._loss(keys, anchors)) / 2 if self.settings.symmetric else loss

    def _view(self, batch: Tensor, which: int) -> Tensor:
        """One view of a batch, with InputMix where set."""
        s = self.settings
        view = self.views(batch, which, self.streams.views) if s.augment else self.views.clean(batch)
        return mixing.inputmix(view, s.inputmix, groups=s.groups, generator=self.streams.mixing) if s.inputmix else view

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

    def run_step(self, progress: Progress) -> None:
        """Train on the next batch; after an epoch's last, which may leave rows over, add a line to the history.

        Raises:
            UserError: the loss is no longer finite.
        """
        if self.step == 0:
            self.method.train()
            self.order = torch.randperm(len(self.rows), generator=self.streams.order)
            self.total.zero_()
        rows = self.order[self.step * self.settings.batch_size :][: self.settings.batch_size]
        rate = learning_rate(self.epoch * self.steps + self.step, self.steps, self.settings)
        loss = self.step_loss(rows)
        loss.backward()
        self.optimiser.step(rate)
        self.total += loss.detach()
        self.step += 1
        progress.advance(len(rows))
        if self.device.type == "cpu" or self.step % LOOK_EVERY == 0 or self.step == self.steps:
            self.check()
        if self.step == self.steps:
            self.check_all()
            self.epoch, self.step = self.epoch + 1, 0
            mean = float(self.total) / self.steps
            self.history.append({"epoch": self.epoch, "loss": mean, "learning_rate": rate, **self._monitor()})
            progress.epoch(self.epoch, mean)

    def check(self) -> None:
        """Raise UserError where a loss of this epoch was not finite; waits for the device."""
        if not math.isfinite(float(self.total)):
            self._diverged("the loss is")

    def check_all(self) -> None:
        """Raise UserError where the loss or any weight, statistic or key is not finite: it is neither to be saved nor judged."""
        self.check()
        if not all(bool(tensor.isfinite().all()) for tensor in self.method.state_dict().values()):
            self._diverged("weights are")

    def _diverged(self, what: str) -> NoReturn:
        step = self.epoch * self.steps + self.step - 1  # the last one taken
        raise UserError(
            f"{what} not finite at step {step + 1} (epoch {step // self.steps + 1}), at a learning rate of "
            f"{learning_rate(step, self.steps, self.settings):.4g}: lower learning_rate, or look at the data"
        )

    def _monitor(self) -> dict[str, float]:
        """kNN accuracy on the validation rows, and spread of the features, every ``knn_every`` epochs and at the end."""
        if self.epoch % self.settings.knn_every and self.epoch < self.settings.epochs:
            return {"knn_validation": math.nan, "feature_std": math.nan, "collapsed": math.nan}
        data = self.dataset
        encode = partial(extract, self.method.encoder, self.views)
        fit, validation = encode(data.fit), encode(data.validation)
        accuracy = knn_accuracy(fit, data.fit_labels, validation, data.validation_labels, neighbours=MONITOR_NEIGHBOURS)
        spread = feature_std(fit)
        if spread < COLLAPSED:
            print(f"imix: warning: collapsed: after epoch {self.epoch} the features' spread is {spread:.2g}", file=sys.stderr)
        return {"knn_validation": accuracy, "feature_std": spread, "collapsed": int(spread < COLLAPSED)}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that a later process needs to go on as if nothing had happened: tensors by name, and the rest."""
        tensors = {f"method.{name}": tensor for name, tensor in self.method.state_dict().items()}
        tensors |= {f"velocity.{k}": velocity for k, velocity in enumerate(self.optimiser.velocity)}
        tensors |= {f"stream.{name}": generator.get_state() for name, generator in self.streams._asdict().items()}
        facts = {"epoch": self.epoch, "step": self.step, "seconds": self.seconds, "history": self.history}
        return tensors | {"order": self.order, "total": self.total}, facts

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        self.method.load_state_dict({name[7:]: tensor for name, tensor in tensors.items() if name.startswith("method.")})
        for k, velocity in enumerate(self.optimiser.velocity):
            velocity.copy_(tensors[f"velocity.{k}"])
        for name, generator in self.streams._asdict().items():
            generator.set_state(tensors[f"stream.{name}"])
        self.order = tensors["order"]
        self.total.copy_(tensors["total"])
        self.epoch, self.step, self.seconds, self.history = (facts[key] for key in ("epoch", "step", "seconds", "history"))


def run(training: Training, label: str, resume: Path) -> None:
    """Train to the end, from where ``resume`` was left if that file is there; save there now and then.

    Args:
        label: what progress is shown for. resume: the caller removes it once the result is safe.

    Raises:
        UserError: a ``resume`` file that no training saved; a loss that is not finite; no memory left.
        Stopped: SIGINT or SIGTERM came; the step was finished and the state saved.
    """
    epochs, every = training.settings.epochs, save_seconds()
    with Progress(label, training.items_per_epoch * epochs, epochs) as progress, resuming.noted_signals() as signals:
        if saved := resuming.load(resume):
            training.load_state(*saved)
            progress.resumed(training.epoch, training.epoch * training.items_per_epoch + training.step * training.settings.batch_size)
        began, before = time.monotonic(), training.seconds
        last = began
        while training.epoch < epochs:
            with _told(training, label, resume):
                training.run_step(progress)
                now = time.monotonic()
                training.seconds = before + now - began
                if signals or now - last >= every:
                    training.check_all()
                    resuming.save(*training.state(), resume)
                    last = time.monotonic()
            if signals:
                raise Stopped(signals[0], f"{label}: stopped after epoch {training.epoch}, step {training.step}; run it again to continue")


@contextmanager
def _told(training: Training, label: str, resume: Path) -> Iterator[None]:
    """Say which training an error ended, and what can be done."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{label}: {error}; last good state: {resume if resume.exists() else 'none was saved'}") from None
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and "can't allocate memory" not in str(error):
            raise
        raise UserError(
            f"{label}: out of memory at batch_size = {training.settings.batch_size}: lower it, or the encoder's width"
        ) from None


def history_csv(history: list[dict[str, float]]) -> str:
    """The history as a table, one row an epoch; figures not taken in an epoch are empty."""
    lines = [",".join(history[0])]
    lines += [",".join("" if math.isnan(value) else repr(value) for value in row.values()) for row in history]
    return "\n".join(lines) + "\n"
