"""Break `imix run` on a small study in every way below, run it again, and compare what comes out.

    python -m tests.faults [FAULT ...]

Each fault falls on a clone of its own while trainings run; afterwards `imix run` has to end well, every out has to have
the bytes of an undisturbed `dvc repro`, dvc.lock has to be the same, and no finished training may be done again.
Exits with 1 where one of that fails.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import yaml
from distributed import Client

from tests import clones

GRID = {"methods": ["npair", "moco"], "mixes": ["imix"], "seeds": [0, 1], "supervised": ["none"]}
CHANGES = {"recipe": {"diamonds": {"knn_every": 1000}}}
EPOCHS = 40
RUN = [sys.executable, "-m", "imix", "run"]
VARIABLES = {"IMIX_SAVE_SECONDS": "0.3", "IMIX_WORKERS": "1"}
TRAININGS = 6


class Study:
    """A clone, and what runs in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = folder.with_suffix(".log")

    def start(self, *options: str) -> subprocess.Popen:
        """Start `imix run`."""
        environment = clones.environment(self.folder) | VARIABLES
        with self.said.open("a") as file:
            return subprocess.Popen(
                [*RUN, *options], cwd=self.folder, env=environment, stdout=file, stderr=file, start_new_session=True
            )

    def again(self, *options: str) -> None:
        """Run to the end.

        Raises:
            RuntimeError: it does not end well.
        """
        if self.start(*options).wait():
            raise RuntimeError(f"{' '.join(RUN + list(options))} failed:\n{self.last(20)}")

    def last(self, lines: int = 1) -> str:
        """Return the last lines that were printed."""
        return "\n".join(self.said.read_text().splitlines()[-lines:])

    def line(self, text: str) -> str:
        """Return the first line that was printed with some text; nothing if there is none."""
        return next((line for line in self.said.read_text().splitlines() if text in line), "")

    def states(self) -> list[Path]:
        """Return the states of unfinished trainings."""
        return list((self.folder / ".imix/trainings").glob("*/state"))

    def until_training(self) -> None:
        """Wait until two trainings have saved something."""
        until(lambda: len(self.states()) >= 2)


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: it does not come true.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.05)


def workers(of: subprocess.Popen) -> list[psutil.Process]:
    """Return the processes that have runners: Dask's workers."""
    found = [each for each in psutil.Process(of.pid).children(recursive=True) if "cluster.runner" in command(each)]
    return [each.parent() for each in found if each.parent()]


def command(process: psutil.Process) -> str:
    """Return a process's command line; nothing of one that has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def alive(process: psutil.Process) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def worker_killed(study: Study) -> str:
    """Kill a worker in the middle of a training: another one continues."""
    process = study.start()
    study.until_training()
    workers(process)[0].kill()
    if process.wait():
        raise RuntimeError(study.last(20))
    return "the run goes on and ends well"


def client_killed(study: Study) -> str:
    """Kill `imix run` itself: the stages save and end."""
    process = study.start()
    study.until_training()
    processes = psutil.Process(process.pid).children(recursive=True)
    stages = [each for each in processes if "stages.pretrain" in command(each)]
    process.kill()
    process.wait()
    until(lambda: not any(map(alive, stages)))
    return f"its {len(stages)} stages end by themselves"


def interrupted(study: Study) -> str:
    """Press Ctrl-C."""
    process = study.start()
    study.until_training()
    os.killpg(process.pid, signal.SIGINT)
    return f"exit code {process.wait()}: {study.last()}"


def two_at_once(study: Study) -> str:
    """Start a second `imix run` in the same folder: it is refused."""
    process = study.start()
    study.until_training()
    second = study.start()
    second.wait()
    said = study.last()
    if process.wait():
        raise RuntimeError(study.last(20))
    return f"exit code {second.returncode}: {said}"


@contextmanager
def cluster(study: Study, *each: list[str]) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """Start a scheduler and workers, with a command before each one's own; yield its address and all processes."""
    scratch = study.folder.with_suffix(".scratch")
    scratch.mkdir()
    file, environment = scratch / "scheduler.json", clones.environment(clones.ROOT)
    started = []

    def start(name: str, before: list[str], *options: str) -> None:
        call = [*before, sys.executable, "-m", "dask", *options, "--scheduler-file", str(file)]
        with (scratch / f"{name}.log").open("w") as log:
            started.append(subprocess.Popen(call, env=environment, stdout=log, stderr=log, start_new_session=True))

    start("scheduler", [], "scheduler", "--port", "0", "--dashboard-address", ":0")
    until(file.exists)
    for number, before in enumerate(each):
        start(str(number), before, "worker", "--nthreads", "1", "--local-directory", str(scratch / str(number)))
    address = yaml.safe_load(file.read_text())["address"]
    with Client(address) as client:
        client.wait_for_workers(len(each), timeout=120)
    try:
        yield address, started
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()


def scheduler_killed(study: Study) -> str:
    """Kill the scheduler of another cluster: one line; the workers' stages save; a new cluster continues."""
    with cluster(study, [], []) as (address, processes):
        process = study.start("--scheduler", address)
        study.until_training()
        processes[0].kill()
        code, said = process.wait(), study.last()
    shutil.rmtree(study.folder.with_suffix(".scratch"))
    with cluster(study, [], []) as (address, _):
        study.again("--scheduler", address)
    return f"exit code {code}: {said}"


def full_disk(study: Study) -> str:
    """Run on two workers, of which one can write no file of more than 8 kB."""
    with cluster(study, ["bash", "-c", 'ulimit -f 8 && exec "$@"', "bash"], []) as (address, _):
        study.again("--scheduler", address)
    return study.line("cannot run")


def another_torch(study: Study) -> str:
    """Run on two workers, of which one has another torch."""
    fake = study.folder.with_suffix(".fake") / "torch-0.1.dist-info"
    fake.mkdir(parents=True)
    (fake / "METADATA").write_text("Name: torch\nVersion: 0.1\n")
    path = f"PYTHONPATH={fake.parent}{os.pathsep}{clones.ROOT}"
    with cluster(study, ["env", path], []) as (address, _):
        study.again("--scheduler", address)
    return study.line("has torch")


FAULTS = (worker_killed, scheduler_killed, client_killed, full_disk, another_torch, two_at_once, interrupted)


def wrong(study: Study, reference: Path) -> list[str]:
    """Return what differs from an undisturbed run."""
    study.again()
    lock, expected = (yaml.safe_load((folder / "dvc.lock").read_text()) for folder in (study.folder, reference))
    found = ["dvc.lock"] if lock != expected else []
    one, two = (clones.contents(folder, clones.outs(reference)) for folder in (study.folder, reference))
    found += sorted(path for path in one.keys() | two.keys() if one.get(path) != two.get(path))
    if ran := clones.stages_run(clones.run(study.folder, "dvc", "repro")):
        found.append(f"dvc repro runs {', '.join(sorted(ran))}")
    records = len(list((study.folder / ".imix/records").glob("*.json")))
    return found + ([f"{records} records of {TRAININGS} trainings"] if records != TRAININGS else [])


def main() -> None:
    """Try every fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [fault.__name__ for fault in FAULTS]
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of {', '.join(names)}; default: all")
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        reference = clones.clone(Path(temporary, "reference"), EPOCHS, GRID, CHANGES)
        clones.run(reference, "dvc", "repro", **VARIABLES)
        for fault in [each for each in FAULTS if each.__name__ in (args.faults or names)]:
            began = time.monotonic()
            study = Study(clones.clone(Path(temporary, fault.__name__), EPOCHS, GRID, CHANGES))
            outcome = fault(study)
            differs = wrong(study, reference)
            failed = failed or bool(differs)
            verdict = f"WRONG: {'; '.join(differs)}" if differs else "afterwards: the same bytes, the same dvc.lock"
            print(f"{fault.__name__} ({time.monotonic() - began:.0f} s): {outcome}\n    {verdict}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
