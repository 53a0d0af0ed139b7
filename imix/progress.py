"""Progress of the trainings of a stage: bars on a terminal, lines at least every half a minute elsewhere."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from tqdm import tqdm

LINE_SECONDS = 30.0
Report = Callable[[int, int, str], None]  # of items done, of how many, and where the work is: "epoch 3/10"


def silent(done: int, total: int, text: str) -> None:
    """Report nothing."""


@dataclass
class _Work:
    """What is known of one piece of work that runs."""

    label: str
    started: float
    first: int = 0  # items that were done before this run
    done: int = 0
    total: int = 0
    text: str = ""
    bar: tqdm | None = None

    def share(self) -> float:
        return self.done / self.total if self.total else 0.0


class Display:
    """What is done, running and left of a stage's pieces of work.

    Args:
        label: the stage. count: pieces of work.
    """

    def __init__(self, label: str, count: int) -> None:
        self.label, self.count, self.finished = label, count, 0
        self.running: dict[int, _Work] = {}
        self.started = self.printed = time.monotonic()
        self.skipped = 0.0  # pieces of work that earlier runs did
        self.terminal = sys.stderr.isatty()
        self.whole = self._bar(label, 0, count, "done") if count > 1 else None

    def _bar(self, label: str, position: int, total: int, unit: str) -> tqdm | None:
        if not self.terminal:
            return None
        return tqdm(total=total, desc=label, unit=unit, unit_scale=True, position=position, leave=False)

    def begin(self, number: int, label: str) -> None:
        """Show that a piece of work starts."""
        self.running[number] = _Work(label, time.monotonic())

    def update(self, number: int, done: int, total: int, text: str) -> None:
        """Show how far a piece of work is."""
        work = self.running[number]
        if not work.total and done:
            work.first = done
            self.skipped += done / total
        work.done, work.total, work.text = done, total, text
        if self.terminal and work.bar is None:
            free = set(range(1, self.count + 2)) - {each.bar.pos for each in self.running.values() if each.bar}
            work.bar = tqdm(
                total=total, initial=done, desc=work.label, unit="item", unit_scale=True, position=min(free), leave=False
            )
        if work.bar:
            work.bar.set_postfix_str(text, refresh=False)
            work.bar.update(done - work.bar.n)

    def end(self, number: int) -> None:
        """Show that a piece of work ended."""
        work = self.running.pop(number)
        self.finished += 1
        if work.bar:
            work.bar.close()
        if self.whole:
            self.whole.update(1)

    def seconds_left(self) -> float:
        """Estimate the seconds until all is done, from what this run has done; NaN before anything is."""
        done = self.finished + sum(work.share() for work in self.running.values())
        rate = (done - self.skipped) / (time.monotonic() - self.started + 1e-9)
        return (self.count - done) / rate if rate > 0 else float("nan")

    def tick(self) -> None:
        """Print a line for every running piece of work, and one for the stage, where it is time."""
        now = time.monotonic()
        if self.terminal or now - self.printed < LINE_SECONDS:
            return
        self.printed = now
        for work in self.running.values():
            if work.total:
                rate = (work.done - work.first) / (now - work.started + 1e-9)
                left = f", {(work.total - work.done) / rate:.0f} s left" if rate > 0 else ""
                print(f"{work.label}: {work.text}, {rate:.0f} items/s{left}", file=sys.stderr)
        if self.count > 1:
            left = self.seconds_left()
            about = f", about {left:.0f} s left" if left == left else ""
            print(f"{self.label}: {self.finished} of {self.count} done{about}", file=sys.stderr, flush=True)

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for work in self.running.values():
            if work.bar:
                work.bar.close()
        if self.whole:
            self.whole.close()
