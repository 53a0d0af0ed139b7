"""The seconds of stages, from the plan.

``python -m imix.cluster.forecast`` prints them as JSON, by what the stages write.

Stages are weighed by it, and the time left is estimated. It runs beside the stages, at low
priority.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress

COMMAND = ("-m", "imix.cluster.forecast")
NICE = 10
RATE = 1e12  # operations a second, for workers that steps cannot be timed on: only ratios count


class Forecast:
    """A process that computes the seconds of stages, and what is known of them.

    Args:
        outs: what each stage writes. timed: whether steps are timed here, as `imix plan` does.
    """

    def __init__(self, outs: Mapping[str, Iterable[str]], timed: bool) -> None:
        self.makers = {out: name for name, paths in outs.items() for out in paths}
        self.planned: dict[str, float] = {}  # of stages that train or evaluate
        self.spent: dict[str, float] = {}  # of stages that this run has done
        command = [sys.executable, *COMMAND, *([] if timed else [str(RATE)])]
        self.process: subprocess.Popen | None = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
        )

    def poll(self) -> None:
        """Take the seconds if they have come."""
        if self.process and self.process.poll() is not None:
            text, self.process = self.process.communicate()[0], None
            with suppress(ValueError):  # a pipeline whose params.yaml is another's: all stages count alike
                self.planned = {self.makers[out]: each for out, each in json.loads(text).items() if out in self.makers}

    def close(self) -> None:
        """End the process."""
        if self.process:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def weight(self, name: str) -> float:
        """Return the seconds that a stage is planned to take; 0 if that is not known."""
        return self.planned.get(name, 0.0)

    def seconds_left(self, left: Iterable[str], running: Mapping[str, float], slots: int) -> float | None:
        """Estimate the seconds until all is done; None before the first stage is.

        Args:
            left: stages, the running ones among them. running: seconds that those have run. slots:
                stages side by side.
        """
        if not self.spent:
            return None
        known = [name for name in self.spent if name in self.planned]
        # how much longer than planned stages take, and how long one that has no plan does
        slower = sum(self.spent[name] for name in known) / max(1e-9, sum(self.planned[name] for name in known))
        others = [seconds for name, seconds in self.spent.items() if name not in self.planned]
        usual = sum(others) / len(others) if others else 0.0
        if self.planned and not known:
            return None
        whole = {name: self.planned[name] * slower if name in self.planned else usual for name in left}
        rest = [max(0.0, seconds - running.get(name, 0.0)) for name, seconds in whole.items()]
        return max([sum(rest) / slots, *rest])


def seconds(rate: float | None) -> dict[str, float]:
    """Return the seconds left of each stage that trains or evaluates, by the folder that it writes.

    Args:
        rate: operations a second; None: steps are timed here.
    """
    from imix import runtime
    from imix.planning import study
    from imix.settings import loading, resolved

    params = loading.load()
    found: Counter[str] = Counter()
    for job in study.priced(params, resolved.resolved(params), runtime.configure(), rate, None):
        found[job.output.as_posix()] += 0.0 if job.done else job.seconds
    return dict(found)


if __name__ == "__main__":
    os.nice(NICE)
    print(json.dumps(seconds(float(sys.argv[1]) if sys.argv[1:] else None)))
