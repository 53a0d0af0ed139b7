"""Progress of one long piece of work: a bar on a terminal, a line every half a minute elsewhere."""

import sys
import time
from types import TracebackType

from tqdm import tqdm

LINE_SECONDS = 30.0


class Progress:
    """Counts items towards ``total``; shows loss, items per second and the time left.

    Args:
        label: what is trained. total: items in all. epochs: of the training.
    """

    def __init__(self, label: str, total: int, epochs: int) -> None:
        self.label, self.total, self.epochs = label, total, epochs
        self.bar = tqdm(total=total, desc=label, unit="item", unit_scale=True, disable=not sys.stderr.isatty(), leave=False)
        self.done = self.skipped = 0
        self.started = self.printed = time.monotonic()

    def advance(self, items: int) -> None:
        """Count the items of a step."""
        self.done += items
        self.bar.update(items)

    def resumed(self, epoch: int, items: int) -> None:
        """Tell that the training continues after ``epoch`` and so many items in all."""
        self.done = self.skipped = items
        self.bar.update(self.done)
        print(f"{self.label}: continuing after epoch {epoch}", file=sys.stderr)

    def epoch(self, epoch: int, loss: float) -> None:
        """Tell the epoch's mean loss."""
        self.bar.set_postfix(epoch=f"{epoch}/{self.epochs}", loss=f"{loss:.4f}")
        now = time.monotonic()
        if self.bar.disable and now - self.printed > LINE_SECONDS:
            rate = (self.done - self.skipped) / (now - self.started)
            print(
                f"{self.label}: epoch {epoch}/{self.epochs}, loss {loss:.4f}, {rate:.0f} items/s, "
                f"{(self.total - self.done) / rate:.0f} s left",
                file=sys.stderr,
                flush=True,
            )
            self.printed = now

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.close()
