"""Work for the workers of tests/test_running.py: ``python -m tests.tasks FOLDER "name work arguments" ...`` runs it.

Torch is loaded only where it is needed, so that starting costs little.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from imix import errors, progress, running
from imix.errors import Stopped, UserError


def note(folder, name):
    (folder / name).write_text(f"{time.monotonic()} {os.getpid()}")


def nap(slot, report, folder, name, seconds):
    """Work that cannot save."""
    note(folder, f"{name}.begin{slot}")
    time.sleep(seconds)
    note(folder, f"{name}.end")


def train(slot, report, folder, name, steps=300, seconds=0.05):
    """Work that saves when it is asked to end."""
    with errors.noted_signals() as signals:
        note(folder, f"{name}.begin{slot}")
        for step in range(steps):
            report(step, steps, f"epoch {step // 10 + 1}/{steps // 10}")
            time.sleep(seconds)
            if signals:
                note(folder, f"{name}.saved")
                raise Stopped(signals[0], f"{name}: stopped")
    note(folder, f"{name}.end")


def wait_for(slot, report, folder, name):
    """Work that another process is at."""
    note(folder, f"{name}.begin{slot}")
    from imix import store

    with store.claimed(store.entry("trainings", "a" * 24), name):
        note(folder, f"{name}.end")


def fails(slot, report, folder, how):
    while how == "mistake" and not any(folder.glob("*.begin*")):  # others run
        time.sleep(0.02)
    if how == "mistake":
        raise UserError("params.yaml: x = 1: must be 2")
    if how == "crash":
        return 1 / 0
    if how == "memory":
        import torch

        torch.empty(1 << 52)
    if how == "says":
        progress.say("warning: the same for all")
        return None
    return os.kill(os.getpid(), signal.SIGKILL if how == "killed" else signal.SIGTERM)


class CannotArrive:
    def __reduce__(self):
        return int, ("no number",)


def task(label, work, *args):
    return running.Task(label, f"tests.tasks:{work}", args)


def run(*asked):
    running.run("stage", asked, ["imix.runtime"])


def main():
    folder, asked = Path(sys.argv[1]), [each.split() for each in sys.argv[2:]]
    tasks = [task(name, work, folder, name, *map(json.loads, rest)) for name, work, *rest in asked]
    errors.exit_cleanly(lambda: run(*tasks))


if __name__ == "__main__":
    main()
