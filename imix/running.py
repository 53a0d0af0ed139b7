"""Run pieces of work side by side, one process each, forked from a process that has torch loaded."""

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pkgutil import resolve_name
from typing import Any, NamedTuple

from imix.errors import Stopped, UserError, explained, noted_signals
from imix.progress import Display, Report

REPORT_SECONDS = 0.5  # between two reports of a worker
LOOK_SECONDS = 0.5  # between two looks of the parent at signals and the clock
SERVED = "forkserver" in multiprocessing.get_all_start_methods()  # not on Windows: there, every worker loads torch


class Task(NamedTuple):
    """One piece of work: ``work(slot, report, *args)`` in a process of its own.

    ``work`` is a name such as "imix.jobs:train", so that the process that runs tasks need not import torch.
    """

    label: str
    work: str
    args: tuple[Any, ...]


def run(label: str, tasks: Sequence[Task], preload: Sequence[str]) -> None:
    """Run the tasks in their order, as many side by side as `imix.runtime.workers` says.

    On SIGINT or SIGTERM, or when a task fails, the running ones are asked to save and end. A second signal
    ends them at once.

    Args:
        preload: modules that the process loads from which workers are forked.

    Raises:
        UserError: a task's own, or a worker that was killed.
        Stopped: a signal came, and everything that ran has saved.
    """
    with noted_signals() as signals, Display(label, len(tasks)) as display:
        if SERVED:
            multiprocessing.set_forkserver_preload(list(preload))
        _Pool(tasks, display, signals).run(min(_workers(), len(tasks)))
    if signals:
        raise Stopped(signals[0], f"{label}: stopped; run it again to continue")


def _context() -> Any:
    return multiprocessing.get_context("forkserver" if SERVED else "spawn")


def _workers() -> int:
    """Return how many workers to run, as a worker says it: it has torch, which counts the GPUs."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = _context().Process(target=_count_workers, args=(theirs,))
    process.start()
    theirs.close()
    try:
        answer = ours.recv()
    except EOFError:
        raise RuntimeError("a worker process cannot be started") from None
    finally:
        process.join()
        ours.close()
    if isinstance(answer, str):
        raise UserError(answer)
    return answer


def _count_workers(connection: Connection) -> None:
    from imix import runtime  # imports torch, which the parent does without

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        connection.send(runtime.workers())
    except UserError as error:
        connection.send(str(error))


class _Pool:
    """The running workers of one call of `run`."""

    def __init__(self, tasks: Sequence[Task], display: Display, signals: list[int]) -> None:
        self.left = list(enumerate(tasks))[::-1]
        self.display, self.signals = display, signals
        self.running: dict[Connection, tuple[int, int, Task, BaseProcess]] = {}  # number, slot, task, process
        self.failure: Exception | None = None

    def run(self, workers: int) -> None:
        free, asked = list(range(workers))[::-1], 0
        while self.running or (self.left and not self._ending()):
            while self.left and free and not self._ending():
                self._start(free.pop())
            if self._ending() and asked < 1 + (len(self.signals) > 1):
                asked += 1
                for *_, process in self.running.values():
                    process.terminate() if asked == 1 else process.kill()
            for connection in wait(list(self.running), LOOK_SECONDS):
                if self._read(connection):  # type: ignore[arg-type]
                    free.append(self._end(connection))  # type: ignore[arg-type]
            self.display.tick()
        if self.failure:
            raise self.failure

    def _ending(self) -> bool:
        return bool(self.signals or self.failure)

    def _start(self, slot: int) -> None:
        number, task = self.left.pop()
        ours, theirs = multiprocessing.Pipe(duplex=False)
        process = _context().Process(target=_worker, args=(task, slot, theirs), name=task.label)
        process.start()
        theirs.close()
        self.running[ours] = (number, slot, task, process)
        self.display.begin(number, task.label)

    def _read(self, connection: Connection) -> bool:
        """Take one message; return whether it was the last."""
        number, _, task, process = self.running[connection]
        try:
            kind, content = connection.recv()
        except (EOFError, ConnectionResetError):
            process.join()
            if not self._ending():
                self.failure = UserError(
                    f"{task.label}: its process was killed (exit code {process.exitcode}), perhaps for want of memory: "
                    "set fewer IMIX_WORKERS, and run it again to continue"
                )
            return True
        if kind == "progress":
            self.display.update(number, *content)
            return False
        if kind != "done" and not self.failure:
            self.failure = {"error": UserError, "crash": RuntimeError}[kind](content) if kind != "stopped" else None
            if kind == "stopped" and not self.signals:  # a signal to the worker alone
                self.failure = Stopped(signal.SIGTERM, content)
        return True

    def _end(self, connection: Connection) -> int:
        """Close a worker; return its slot."""
        number, slot, _, process = self.running.pop(connection)
        connection.close()
        process.join()
        self.display.end(number)
        return slot


def _worker(task: Task, slot: int, connection: Connection) -> None:
    """Do one task in this process, and send reports, then how it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent alone decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        resolve_name(task.work)(slot, _reporter(connection), *task.args)
        message = ("done", "")
    except Stopped as stopped:
        message = ("stopped", str(stopped))
    except Exception as error:
        text = explained(error)
        label = "" if text is None or task.label in text else f"{task.label}: "
        message = ("crash", traceback.format_exc()) if text is None else ("error", label + text)
    sys.stdout.flush()
    try:
        connection.send(message)
    except OSError:  # the parent is gone
        os._exit(1)


def _reporter(connection: Connection) -> Report:
    """Return a report that sends now and then, so that work can call it at every step."""
    last = 0.0

    def report(done: int, total: int, text: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= REPORT_SECONDS:
            last = now
            try:
                connection.send(("progress", (done, total, text)))
            except OSError:  # the parent is gone, which the work looks for itself
                pass

    return report


def parent_is_gone() -> bool:
    """Whether the process that started this worker has ended."""
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()
