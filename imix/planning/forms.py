"""What the rows of a data set look like and how many there are, known before any is fetched."""

import math
from typing import NamedTuple

import torch

from imix import settings


class Form(NamedTuple):
    """The rows of a source, or those of it that a data set's settings take."""

    train: int  # rows of a final training, carved validation rows among them
    shape: tuple[int, ...]  # of a stored row
    dtype: torch.dtype
    classes: int
    column_groups: tuple[int, ...] = ()
    validation: int = 0
    test: int = 0
    carved: bool = True  # the validation rows are training rows put aside
    seconds: float = 0  # of reading a source whole; measured on one core of an AMD EPYC

    @property
    def fit(self) -> int:
        """Training rows without any validation row."""
        return self.train - self.validation if self.carved else self.train

    @property
    def seen(self) -> tuple[int, ...]:
        """The shape that an encoder sees."""
        return (1, 32, 32) if self.dtype == torch.int16 else self.shape

    def one(self, classes: bool) -> "Form":
        """A row alone, whatever their number; with the number of ``classes`` or without."""
        return Form(0, self.shape, self.dtype, self.classes * classes, self.column_groups)

    @property
    def memory(self) -> float:
        """Bytes of all rows as they lie on the device."""
        rows = self.fit + self.validation + self.test
        return rows * math.prod(self.shape) * torch.empty(0, dtype=self.dtype).element_size()


BYTES, CLIP = torch.uint8, torch.int16
FORMS = {
    "mnist": Form(0, (1, 0, 0), BYTES, 10, seconds=0.1),
    "segment": Form(0, (18,), torch.float32, 7, (18,), seconds=0.1),
    "spoken": Form(0, (16_000,), CLIP, 12, carved=False, seconds=0.002),  # a clip
    "cifar10": Form(0, (3, 32, 32), BYTES, 10, seconds=3),
    "cifar100": Form(0, (3, 32, 32), BYTES, 100, seconds=3),
    "speech_commands": Form(0, (16_000,), CLIP, 12, carved=False, seconds=60),
    "covtype": Form(0, (54,), torch.float32, 7, (10, 4, 40), seconds=5),
}


def form(params: settings.Params, dataset: str) -> Form:
    """The form of a data set's rows, as many as its settings take."""
    source, rows = settings.data(params, dataset)
    found, chosen = settings.entry(FORMS, source.name, "imix/planning/forms.py: FORMS"), rows.model_dump()
    counts = settings.splits(source, rows)
    if source.name == "spoken":
        found = found._replace(seconds=found.seconds * sum(counts.values()))
    if "canvas" in chosen:
        found = found._replace(shape=(1, chosen["canvas"], chosen["canvas"]))
    return found._replace(**counts)
