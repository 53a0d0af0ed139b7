"""What runs on a Dask worker: stages, each by a runner in a workspace of its own.

A runner is kept for the next stage.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from distributed import Worker, WorkerPlugin, get_worker

from imix.cluster.orders import STOP, Entry

CHECKED = ("torch", "torchvision", "torchaudio", "dvc")  # other versions train or record other bytes
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # Dask sets them for its workers


class Job(NamedTuple):
    """What all stages of one `imix run` have in common."""

    run: str  # its number
    home: str  # the folder where it was started
    cache: str  # DVC's, absolute
    logs: str  # where the stages' output is kept
    commit: str | None  # that clones are made of; None: stages run at home
    environment: dict[str, str]  # of the client: what stages read
    versions: dict[str, str]  # of the client


class Outcome(NamedTuple):
    """How a stage ended: done, failed, stopped, lost (runner died) or refused (by the worker)."""

    kind: str
    entry: Entry | None = None
    text: str = ""
    worker: str = ""


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide results."""
    return {name: version(name) for name in CHECKED}


class Runner:
    """A runner process and its workspace.

    Args:
        scratch: where to make a clone to run in; None: at home. share: cores of its stage, None:
            all GPUs that it sees.
    """

    def __init__(self, job: Job, scratch: Path | None, share: int | None) -> None:
        self.run, self.busy = job.run, True
        self.clone = _clone(job, scratch) if scratch else None
        command = [sys.executable, "-m", "imix.cluster.runner", job.logs, *([job.cache] if scratch else [])]
        self.process = subprocess.Popen(
            command, cwd=self.clone or job.home, env=_environment(job, share), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def reproduce(self, stage: str, parents: dict[str, Entry]) -> Outcome:
        """Run a stage."""
        self._send({"stage": stage, "parents": parents})
        answer = self.process.stdout.readline()  # type: ignore[union-attr]
        if answer:
            return Outcome(**json.loads(answer))
        self.process.wait()  # a process that nobody waits for counts as one that runs: DVC would wait for it
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGINT)  # its stage, if that is left, saves and ends
        return Outcome("lost", text="its process was killed")

    def stop(self) -> None:
        """Let the stage save and end."""
        self._send(STOP)

    def kill(self) -> None:
        """End everything at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def _send(self, order: Any) -> None:
        with suppress(BrokenPipeError, ValueError):  # it has ended: its answer will be missing
            self.process.stdin.write(json.dumps(order) + "\n")  # type: ignore[union-attr]
            self.process.stdin.flush()  # type: ignore[union-attr]


def _environment(job: Job, share: int | None) -> dict[str, str]:
    """Return a runner's environment: the client's where it decides results, else the worker's."""
    kept = {key: value for key, value in os.environ.items() if key not in THREADS}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    workers = {"IMIX_WORKERS": str(share)} if share else {}
    return kept | {"PATH": path, "PYTHONUNBUFFERED": "1"} | workers | job.environment


def _clone(job: Job, scratch: Path) -> Path:
    """Return a new clone of home's commit, with home's params.yaml.

    Raises:
        OSError: home cannot be read from here, or the disk is full.
    """
    target = Path(tempfile.mkdtemp(prefix=f"imix-{job.run}-", dir=scratch))
    for command in (
        ["git", "clone", "-q", "--no-checkout", "--shared", job.home, str(target)],
        ["git", "-C", str(target), "checkout", "-q", "--detach", str(job.commit)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(target, ignore_errors=True)
            reason = " ".join(done.stderr.split()) or f"git ended with exit code {done.returncode}"
            raise OSError(f"no clone of {job.home} ({reason})")
    if (saved := parameters(job)).exists():
        shutil.copy(saved, target / saved.name)
    return target


def parameters(job: Job) -> Path:
    """Return the copy of home's params.yaml, as it was when the run began."""
    return Path(job.logs).parent / "runs" / job.run / "params.yaml"


_runners: list[Runner] = []  # of this process
_guard = threading.Lock()
_stopped: set[str] = set()  # runs


def reproduce(job: Job, stage: str, parents: dict[str, Entry]) -> Outcome:
    """Run a stage on this Dask worker, in a clone if the job has a commit."""
    worker = get_worker()
    scratch = Path(worker.local_directory) if job.commit else None
    return _reproduced(job, stage, parents, scratch, share(worker))._replace(worker=worker.address)


def reproduce_at_home(job: Job, stage: str) -> Outcome:
    """Run a stage in the client's folder."""
    return _reproduced(job, stage, {}, None, None)._replace(worker="home")


def share(worker: Worker) -> int | None:
    """Return the cores of a stage on this worker.

    Return None where it has GPUs: `imix.runtime.workers` counts those.
    """
    resources, threads = worker.state.total_resources, worker.state.nthreads
    return None if resources.get("GPU") else max(1, int(resources.get("CPU") or cores()) // threads)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _reproduced(job: Job, stage: str, parents: dict[str, Entry], scratch: Path | None, share: int | None) -> Outcome:
    if other := {name: found for name, found in versions().items() if found != job.versions[name]}:
        wanted = ", ".join(f"{name} {found}, not {job.versions[name]}" for name, found in other.items())
        return Outcome("refused", text=f"has {wanted}")
    if job.run in _stopped:
        return Outcome("stopped")
    try:
        runner = _free(job, scratch, share)
    except OSError as error:
        return Outcome("refused", text=f"cannot run stages: {error}")
    outcome = runner.reproduce(stage, parents)
    with _guard:
        runner.busy = False
        if outcome.kind == "lost":
            _runners.remove(runner)
    return outcome


def _free(job: Job, scratch: Path | None, share: int | None) -> Runner:
    """Return a runner of the job that is free, a new one if there is none.

    End the runners of runs that are over.
    """
    with _guard:
        for runner in [runner for runner in _runners if not runner.busy and runner.run != job.run]:
            _end(runner)
        if not (found := next((runner for runner in _runners if not runner.busy), None)):
            found = Runner(job, scratch, share)
            _runners.append(found)
        found.busy = True
        return found


def _end(runner: Runner) -> None:
    runner.stop()
    runner.process.wait()
    _runners.remove(runner)
    if runner.clone:
        shutil.rmtree(runner.clone, ignore_errors=True)


def stop(run: str) -> None:
    """Let the stages of a run save and end; start no more."""
    _stopped.add(run)
    for runner in [runner for runner in _runners if runner.run == run]:
        runner.stop()


def kill(run: str) -> None:
    """End the stages of a run at once."""
    _stopped.add(run)
    for runner in [runner for runner in _runners if runner.run == run]:
        runner.kill()


def close(run: str) -> None:
    """End the runners of a run that is over, and remove their clones."""
    with _guard:
        for runner in [runner for runner in _runners if runner.run == run and not runner.busy]:
            _end(runner)


class Ending(WorkerPlugin):
    """Let stages save when their worker closes, as it does shortly before its job ends.

    The worker would wait for them.
    """

    name = "imix"

    def teardown(self, worker: Worker) -> None:
        """Stop all runners."""
        for runner in _runners:
            runner.stop()


def dask_setup(worker: Worker) -> None:
    """Leave Ctrl-C on a terminal to the client, which lets the stages save.

    Dask calls this when a worker starts.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
