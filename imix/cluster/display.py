"""The table of a run: stages that run, are done and left, by kind.

Without a terminal it prints lines.
"""

import sys
import time
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table
from tqdm import tqdm

LINE_SECONDS = 29.0  # between two lines where there is no terminal
SHOWN = 20  # running stages in the table

COLUMNS = ("stage", "running", "done", "left", "time left")


class Display:
    """What a run's stages are at.

    Args:
        names: of the stages, such as ``pretrain@mnist-clean-moco-imix``.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.kinds = dict.fromkeys(kind(name) for name in names)
        self.count, self.printed = len(names), time.monotonic()
        console = Console(stderr=True)
        self.live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> "Display":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.live.stop()

    def say(self, text: str) -> None:
        """Print a line, above the table."""
        if self.live:
            self.live.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def show(self, running: Mapping[str, float], left: Sequence[str], seconds: float | None) -> None:
        """Draw the table again; elsewhere, print a line every half a minute.

        Args:
            running: seconds of the running stages. left: stages that have not started.
            seconds: until all is done.
        """
        about = "" if seconds is None else tqdm.format_interval(seconds)
        if self.live:
            self.live.update(self.table(running, left, about), refresh=True)
        elif time.monotonic() - self.printed > LINE_SECONDS:
            self.printed = time.monotonic()
            done = self.count - len(running) - len(left)
            ending = f"; about {about} left" if about else ""
            self.say(f"imix run: {len(running)} running, {done} done, {len(left)} left{ending}")

    def table(self, running: Mapping[str, float], left: Sequence[str], about: str) -> Table:
        """Return the table; ``about``: the time left, as text."""
        table = Table(box=None, pad_edge=False)
        for column in COLUMNS:
            table.add_column(column, justify="left" if column == COLUMNS[0] else "right")
        counts = {name: [0, 0] for name in self.kinds}
        for place, names in enumerate((running, left)):
            for name in names:
                counts[kind(name)][place] += 1
        for name, (runs, waits) in counts.items():
            if runs or waits:
                table.add_row(name, str(runs), "", str(waits), "")
        done = self.count - len(running) - len(left)
        table.add_row("all", str(len(running)), str(done), str(len(left)), about, style="bold")
        for name, seconds in list(running.items())[:SHOWN]:
            table.add_row(f"  {name}", tqdm.format_interval(seconds), "", "", "")
        return table


def kind(name: str) -> str:
    """Return the stage of dvc.yaml that a stage is an item of."""
    return name.partition("@")[0]
