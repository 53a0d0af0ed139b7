"""A data set on the device, as preprocessing left it, and choices among its rows."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imix import runtime
from imix.errors import UserError
from imix.files import sha256
from imix.views.base import Statistics

ROWS = ("train", "validation", "test", "unlabelled")  # names of the tensors that hold rows; the last may be missing
# share of a process's memory on the device that rows may take: as clean float32, images take four
# times as much, for a moment twice; the rest is for training
RESIDENT = 0.1


@dataclass(frozen=True)
class Dataset:
    """A data set on the device. Rows that do not fit there are on the host; each batch is sent.

    Validation rows are either ``carved`` out of the training rows, or the data set's own. Carved
    rows are in ``train``, as its last rows, and not in ``fit``. Without carving ``train`` is
    ``fit``.

    Attributes:
        kind: its domain, a module of `imix.views`.
        train, train_labels: rows that pretraining and the final probe train on.
        fit, fit_labels: training rows without any validation row. Training with labels uses them,
            and so do the probes from which validation rows choose.
        validation, validation_labels: rows that choices are made on.
        test, test_labels: rows that are only ever reported on.
        sha256: of the tensors' file. card: all that `save` wrote of the data set.
        unlabelled: rows without a label, for pretraining only; None if there are none.

    The other attributes are those of `Splits`.
    """

    kind: str
    train: Tensor
    train_labels: Tensor
    fit: Tensor
    fit_labels: Tensor
    validation: Tensor
    validation_labels: Tensor
    test: Tensor
    test_labels: Tensor
    mean: Tensor
    std: Tensor
    background: Tensor
    classes: list[str]
    carved: bool
    column_groups: list[int]
    numbers: int
    sha256: str
    card: dict[str, Any]
    unlabelled: Tensor | None = None

    @property
    def labelled(self) -> bool:
        """Whether labels say anything: there are two classes or more."""
        return len(self.classes) > 1

    def pretraining_rows(self) -> tuple[Tensor, Tensor]:
        """Return the rows (N, ...) that training without labels uses, and their labels (N,).

        Carved validation rows are among them, since no label is used. Rows without a label have -1.
        """
        if self.unlabelled is None:
            return self.train, self.train_labels
        none = self.train_labels.new_full((len(self.unlabelled),), -1)
        return torch.cat([self.train, self.unlabelled]), torch.cat([self.train_labels, none])

    @property
    def device(self) -> torch.device:
        """Where everything is, but for rows that do not fit."""
        return self.mean.device

    @property
    def statistics(self) -> Statistics:
        """What the data set's views standardise by, and mix in."""
        return Statistics(self.mean, self.std, self.numbers, self.background)


def load(folder: Path, device: torch.device) -> Dataset:
    """Load what `save` wrote onto the device.

    Raises:
        UserError: a file is missing, or not what its card says.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / "tensors.safetensors"
    try:
        card = json.loads((folder / "card.json").read_text())
        if sha256(path) != card["sha256"]:
            raise UserError(f"{path}: not the file that card.json describes; run `dvc repro -f preprocess`")
        tensors = _placed(load_file(path), device)
        names = ("kind", "classes", "carved", "column_groups", "numbers", "sha256")
        facts = {name: card[name] for name in names}
        # the file's "train" has no validation row: it is ``fit`` here (see `imix.sources.Splits`)
        fit, fit_labels = tensors.pop("train"), tensors.pop("train_labels")
        train, train_labels = fit, fit_labels
        if card["carved"]:
            train = torch.cat([fit, tensors["validation"]])
            train_labels = torch.cat([fit_labels, tensors["validation_labels"]])
            # slices share memory with ``train``: the rows are on the device once
            fit, fit_labels = train[: len(fit)], train_labels[: len(fit)]
        parts = {"train": train, "train_labels": train_labels, "fit": fit, "fit_labels": fit_labels}
        return Dataset(**parts, **tensors, **facts, card=card)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UserError(f"{folder}: cannot be read ({error}); run `dvc repro preprocess`") from None


def _placed(tensors: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Move tensors to the device.

    Leave rows on the host where they would take too much of its memory.
    """
    rows = sum(tensor.nbytes for name, tensor in tensors.items() if name in ROWS)
    host = rows > RESIDENT * runtime.free_memory(device)
    return {name: tensor if host and name in ROWS else tensor.to(device) for name, tensor in tensors.items()}


def nested_rows(labels: Tensor, fraction: float, seed: int) -> Tensor:
    """Return indices of a share of the rows, classes in proportion, at least one row of each class.

    A smaller share of the same seed is part of a larger one.

    Args:
        labels: (N,). fraction: of each class, rounded up. seed: of the choice.

    Returns:
        (M,) int64 on the host.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    classes = [order[labels.cpu()[order] == label] for label in labels.unique().cpu()]
    return torch.cat([rows[: math.ceil(len(rows) * fraction)] for rows in classes])


def random_rows(count: int, size: int, seed: int) -> Tensor:
    """Return sorted indices of ``size`` random rows out of ``count``, or of all if fewer.

    A fixed stride would be wrong where rows are in a cycle, as clips of one word after the other
    are.

    Returns:
        (min(count, size),) int64 on the host.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[:size].sort().values
