"""Run stages of a workspace as ``dvc repro --single-item`` does, in a process of its own.

    python -m imix.cluster.runner LOGS [CACHE]

An order is a line of JSON on standard input, an answer one on standard output. The process leads a
session, so that Ctrl-C on a terminal does not reach its stage. On the order to stop, and when
standard input ends with the process that gives orders, it interrupts the stage and ends. The stage
saves its work.
"""

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import filelock
import psutil
from dvc.exceptions import DvcException
from dvc.lock import LockBase, LockError, make_lock
from dvc.repo import Repo
from dvc.stage.loader import StageLoader
from dvc.stage.serialize import to_lockfile

from imix.cluster.orders import STOP, Entry

BUSY_SECONDS = 1.0  # between two tries of a stage whose files another DVC process uses
POLL_SECONDS = 0.02  # between two looks at the lock of this run's processes
LOOK_SECONDS = 0.1  # between two looks for processes to interrupt
TAIL_LINES = 12  # of a failed stage's log


class WaitingLock(LockBase):
    """DVC's lock of a repository, as with ``dvc --wait-for-lock``.

    DVC looks for it every half a second. So that the processes of a run do not wait that long for
    each other, they share a lock of their own, which comes first.
    """

    def __init__(self, repo: Repo) -> None:
        hardlink, folder = repo.config["core"].get("hardlink_lock", False), str(repo.tmp_dir)
        self.ours = filelock.FileLock(Path(folder, "imix.lock"), poll_interval=POLL_SECONDS)
        self.dvcs = make_lock(str(Path(folder, "lock")), tmp_dir=folder, hardlink_lock=hardlink, wait=True)

    def lock(self) -> None:
        """Wait for both."""
        self.ours.acquire()
        self.dvcs.lock()

    def unlock(self) -> None:
        """Release both."""
        self.dvcs.unlock()
        self.ours.release()

    @property
    def is_locked(self) -> bool:
        """Whether this process has the lock."""
        return self.dvcs.is_locked

    def __enter__(self) -> None:
        self.lock()

    def __exit__(self, *error: object) -> None:
        self.unlock()


def log_file(logs: Path, stage: str) -> Path:
    """Return the file of a stage's output."""
    return logs / f"{stage.replace('/', '_').replace(':', '_')}.log"


class Workspace:
    """The stages of the current folder.

    Args:
        cache: of DVC, in place of the folder's own.
    """

    def __init__(self, cache: str | None) -> None:
        self.repo = Repo(config={"cache": {"dir": cache}} if cache else None)
        self.repo.lock = WaitingLock(self.repo)
        with self.repo.lock:  # nobody writes dvc.lock meanwhile
            self.stages = {stage.addressing: stage for stage in self.repo.index.stages}

    def reproduce(self, name: str, parents: dict[str, Entry]) -> Entry:
        """Run a stage if it is stale, or restore it from DVC's run-cache.

        Return its entry of dvc.lock.

        Args:
            parents: entries of stages whose outs are checked out first, in a clone.

        Raises:
            DvcException: the stage failed, or another DVC process uses its files (LockError).
        """
        stage = self.stages[name]
        with self.repo.lock, self.repo.scm_context(autostage=False, quiet=True):
            for parent, entry in parents.items():
                StageLoader.fill_from_lock(self.stages[parent], entry)
                self.stages[parent].checkout(force=True)
            stage.reproduce()
        return to_lockfile(stage)[stage.name]


class Runner:
    """Carries out the orders of a queue; None ends it."""

    def __init__(self, logs: Path, cache: str | None, answers: IO[str]) -> None:
        self.logs, self.cache, self.answers = logs, cache, answers
        self.orders: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.stopping = False
        self.workspace: Workspace | None = None

    def listen(self) -> None:
        """Read orders until one says stop, or nobody is left to give any.

        Then interrupt what runs.
        """
        for line in sys.stdin:
            if (order := json.loads(line)) == STOP:
                break
            self.orders.put(order)
        self.stopping = True
        self.orders.put(None)
        interrupted: set[int] = set()
        while True:  # until the main thread ends; a stage may be about to start
            for process in psutil.Process().children(recursive=True):
                if process.pid not in interrupted:  # a second signal would keep it from saving
                    interrupted.add(process.pid)
                    with suppress(psutil.NoSuchProcess):
                        process.send_signal(signal.SIGINT)
            time.sleep(LOOK_SECONDS)

    def run(self) -> None:
        """Answer every order."""
        threading.Thread(target=self.listen, daemon=True).start()
        while (order := self.orders.get()) is not None:
            path = log_file(self.logs, order["stage"])
            with logged(path):
                kind, entry = self.carried_out(order)
            text = tail(path) if kind == "failed" else ""
            with suppress(BrokenPipeError):  # nobody reads any more: the end of the orders follows
                print(json.dumps({"kind": kind, "entry": entry, "text": text}), file=self.answers, flush=True)

    def carried_out(self, order: dict[str, Any]) -> tuple[str, Entry | None]:
        """Return how an order ended: done, failed or stopped; errors go to the log."""
        try:
            while not self.stopping:
                self.workspace = self.workspace or Workspace(self.cache)
                with suppress(LockError):  # the run of a lost worker that is saving, or a `dvc repro` beside
                    return "done", self.workspace.reproduce(order["stage"], order["parents"])
                print("imix: another DVC process uses this stage's files; waiting", file=sys.stderr, flush=True)
                time.sleep(BUSY_SECONDS)
        except (DvcException, OSError) as error:
            print(f"imix: error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        except Exception:
            traceback.print_exc()
        return "stopped" if self.stopping else "failed", None


@contextmanager
def logged(path: Path) -> Any:
    """Send standard output and error, also of other programs that are started, to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    yield
    sys.stdout.flush()


def tail(path: Path) -> str:
    """Return the last lines of a log."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-TAIL_LINES:])


def main() -> None:
    """Take orders until standard input ends."""
    logs, *cache = sys.argv[1:]
    with os.fdopen(os.dup(1), "w") as answers:
        Runner(Path(logs), cache[0] if cache else None, answers).run()


if __name__ == "__main__":
    main()
