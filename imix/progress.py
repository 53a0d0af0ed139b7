"""Progress of a stage's trainings: bars on a terminal, elsewhere a line every half a minute."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from tqdm import tqdm

LINE_SECONDS = 29.0  # a look at the clock every half a second must not make it more than 30
# Takes progress: items done, items in all (0: not known), and how far the work is, as "epoch 3/10".
# Reports of a study are something else: `imix.reporting`.
Report = Callable[[int, int, str], None]

_speaker: Callable[[str], None] | None = None


def silent(done: int, total: int, text: str) -> None:
    """Report nothing."""


def say(text: str) -> None:
    """Print a line to stderr; a worker has its parent print it, which knows where the bars are."""
    if _speaker:
        _speaker(f"imix: {text}")
    else:
        print(f"imix: {text}", file=sys.stderr, flush=True)


def speak_through(speaker: Callable[[str], None] | None) -> None:
    """Pass the lines of `say` to ``speaker`` from now on; None prints them again."""
    global _speaker
    _speaker = speaker


@dataclass
class _Work:
    """What is known of one piece of work that runs."""

    label: str
    started: float
    position: int  # of its bar on the terminal
    first: float | None = None  # share that was done before this run
    done: int = 0
    total: int = 0
    text: str = ""
    bar: tqdm | None = None

    @property
    def share(self) -> float:
        return self.done / self.total if self.total else 0.0

    @property
    def fresh(self) -> float:
        """Share that this run has done; 0 as long as that is not known."""
        return self.share - (self.first or 0.0)

    def line(self, now: float) -> str:
        """Return one line that says how far it is."""
        seconds = now - self.started
        if not self.total:
            return f"{self.label}: {self.text or 'starting'}, {tqdm.format_interval(seconds)} so far"
        rate = self.fresh * self.total / seconds
        left = f", {tqdm.format_interval((self.total - self.done) / rate)} left" if rate > 0 else ""
        return f"{self.label}: {self.text}, {rate:.0f} items/s{left}"


class Display:
    """What is done, running and left of a stage's pieces of work.

    Args:
        label: the stage. count: pieces of work.
    """

    def __init__(self, label: str, count: int) -> None:
        self.label, self.count, self.finished = label, count, 0
        self.running: dict[int, _Work] = {}
        self.printed = time.monotonic()
        self.said: set[str] = set()
        # what this run did: pieces of work in shares, and the seconds that they took; without what
        # the store had
        self.fresh = self.busy = 0.0
        self.together = 1  # pieces of work that ran side by side
        self.terminal = sys.stderr.isatty()
        # tqdm's own estimate would count what the store had as fast work
        form = "{desc}: {n_fmt} of {total_fmt} done [{elapsed}{postfix}]"
        self.whole = self._bar(label, 0, count, 0, form) if count > 1 and self.terminal else None

    def _bar(self, label: str, position: int, total: int, done: int = 0, form: str | None = None) -> tqdm:
        form = form if total else "{desc} [{elapsed}{postfix}]"
        return tqdm(
            total=total, initial=done, desc=label, unit="item", unit_scale=total > 9999, position=position, leave=False,
            bar_format=form, dynamic_ncols=True, file=sys.stderr,
        )  # fmt: skip

    def begin(self, number: int, label: str) -> None:
        """Show that a piece of work starts."""
        taken = {work.position for work in self.running.values()}
        position = next(place for place in range(int(self.count > 1), self.count + 2) if place not in taken)
        work = self.running[number] = _Work(label, time.monotonic(), position)
        self.together = max(self.together, len(self.running))
        if self.terminal:
            work.bar = self._bar(label, position, 0)

    def update(self, number: int, done: int, total: int, text: str) -> None:
        """Show how far a piece of work is."""
        work = self.running[number]
        if work.first is None and total:
            work.first = done / total
        if work.bar is not None and total != work.total:
            work.bar.close()
            work.bar = self._bar(work.label, work.position, total, done)
        work.done, work.total, work.text = done, total, text
        if work.bar is not None:
            work.bar.set_postfix_str(text, refresh=False)
            work.bar.update(done - work.bar.n)

    def end(self, number: int) -> None:
        """Show that a piece of work ended."""
        work = self.running.pop(number)
        self.finished += 1
        fresh = 1 - (work.first or 0.0)
        if fresh:
            self.fresh, self.busy = self.fresh + fresh, self.busy + time.monotonic() - work.started
        if work.bar is not None:
            work.bar.close()
        if self.whole is not None:
            self.whole.update(1)

    def seconds_left(self) -> float:
        """Estimate the seconds until all is done, from what this run has done.

        Return NaN before anything is done.

        What waits counts as work from its beginning: whether the store has it is not known.
        """
        now = time.monotonic()
        going = [work for work in self.running.values() if work.fresh > 0]
        fresh = self.fresh + sum(work.fresh for work in going)
        if not fresh:
            return float("nan")
        # seconds of one piece from its beginning
        each = max(1e-9, (self.busy + sum(now - work.started for work in going)) / fresh)
        running = [
            # work that reports no items: by the clock
            max(0.0, 1 - (work.share if work.total else (now - work.started) / each))
            for work in self.running.values()
        ]
        waiting = self.count - self.finished - len(running)
        together = max(1, min(self.together, waiting + len(running)))
        return each * max(max(running, default=0.0), (sum(running) + waiting) / together)

    def _about(self) -> str:
        left = self.seconds_left()
        return "" if left != left else f"about {tqdm.format_interval(left)} left"  # NaN differs from itself

    def tick(self) -> None:
        """Refresh the bars.

        Elsewhere, print a line for each piece of work and one for the stage, where it is time.
        """
        if self.whole is not None:
            self.whole.set_postfix_str(self._about(), refresh=False)
            self.whole.refresh()
        for work in self.running.values():
            if work.bar is not None:
                work.bar.refresh()
        now = time.monotonic()
        if self.terminal or now - self.printed < LINE_SECONDS:
            return
        self.printed = now
        lines = [work.line(now) for work in self.running.values()]
        if self.count > 1:
            about = self._about()
            lines.append(f"{self.label}: {self.finished} of {self.count} done" + (f", {about}" if about else ""))
        print("\n".join(lines), file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Print a line above the bars, once, however many workers say it."""
        if text not in self.said:
            self.said.add(text)
            tqdm.write(text, file=sys.stderr)
            sys.stderr.flush()

    def __enter__(self) -> "Display":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for work in self.running.values():
            if work.bar is not None:
                work.bar.close()
        if self.whole is not None:
            self.whole.close()
