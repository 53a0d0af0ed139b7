"""Run pieces of work side by side, each in a process forked from one that has torch loaded."""

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pkgutil import resolve_name
from typing import Any, NamedTuple

from imix.errors import Stopped, UserError, explained, noted_signals
from imix.progress import Display, Report, speak_through

REPORT_SECONDS = 0.5  # between two reports of a worker
LOOK_SECONDS = 0.5  # between two checks of signals and the clock by the parent
FAILURES = {"error": UserError, "crash": RuntimeError}  # by the last message of a worker
SERVED = "forkserver" in multiprocessing.get_all_start_methods()  # not on Windows: there, every worker loads torch


class Task(NamedTuple):
    """One piece of work: ``work(slot, report, *args)`` in a process of its own.

    ``work`` is the name of a function, such as "imix.jobs:train": the process that lists tasks need
    not import torch. ``slot`` is the worker's number, from 0, and decides which GPU it gets.
    ``report`` takes progress (`imix.progress.Report`).
    """

    label: str
    work: str
    args: tuple[Any, ...]


def run(label: str, tasks: Sequence[Task], preload: Sequence[str]) -> None:
    """Run the tasks in their order, as many side by side as `imix.runtime.workers` says.

    On SIGINT or SIGTERM, or when a task fails, the running ones are asked to save and end. A second
    signal ends them at once.

    Args:
        preload: modules that the process loads from which workers are forked.

    Raises:
        UserError: a task's own, or a worker that was killed.
        Stopped: a signal came, and everything that ran has saved.
    """
    with noted_signals() as signals, Display(label, len(tasks)) as display:
        try:
            _serve(preload)
            workers = _workers()
        except (UserError, RuntimeError):
            if not signals:  # else it ended what starts workers, too
                raise
        else:
            _Pool(tasks, display, signals).run(min(workers, len(tasks)))
    if signals:
        raise Stopped(signals[0], f"{label}: stopped; run it again to continue")


def _serve(preload: Sequence[str]) -> None:
    """Start the process that workers are forked from."""
    if not SERVED:
        return
    from multiprocessing import forkserver, resource_tracker

    multiprocessing.set_forkserver_preload(list(preload))
    resource_tracker.ensure_running()  # else `forkserver` starts it, which unblocks SIGINT
    # A terminal sends SIGINT to all. Workers inherit the block, so that the parent alone decides.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _started(name: str, target: Callable[..., None], *args: Any) -> BaseProcess:
    """Start a worker.

    Raises:
        UserError: the process that workers are forked from has died.
    """
    context: Any = multiprocessing.get_context("forkserver" if SERVED else "spawn")
    # daemon: a parent that ends early asks its workers to end, and does not wait for their work
    process = context.Process(target=target, args=args, name=name, daemon=True)
    try:
        process.start()
    except (EOFError, ConnectionError):
        raise UserError(
            f"{name}: no worker can be started, perhaps for want of memory: set fewer IMIX_WORKERS, and run it again "
            "to continue"
        ) from None
    return process


def _workers() -> int:
    """Return how many workers to run; a worker counts, since it has torch, which knows the GPUs."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = _started("workers", _count_workers, theirs)
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
        """Run all tasks, ``workers`` at a time, or until a signal or a failure.

        Then raise the failure.
        """
        free, asked = list(range(workers))[::-1], 0
        try:
            while self.running or (self.left and not self._ending()):
                while self.left and free and not self._ending():
                    self._start(free.pop())
                if self._ending() and asked < 1 + (len(self.signals) > 1):
                    self._send(signal.SIGKILL if asked else signal.SIGTERM)
                    asked += 1
                for connection in wait(list(self.running), LOOK_SECONDS):
                    if self._read(connection):  # type: ignore[arg-type]
                        free.append(self._end(connection))  # type: ignore[arg-type]
                self.display.tick()
        finally:
            self._send(signal.SIGTERM)  # none is left unless something went wrong here
        if self.failure:
            raise self.failure

    def _send(self, number: int) -> None:
        """Send a signal to every running worker."""
        for *_, process in self.running.values():
            # process.terminate() does nothing once the process that forked the worker is dead
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)

    def _ending(self) -> bool:
        return bool(self.signals or self.failure)

    def _start(self, slot: int) -> None:
        number, task = self.left.pop()
        ours, theirs = multiprocessing.Pipe(duplex=False)
        try:
            process = _started(task.label, _worker, task, slot, theirs)
        except UserError as error:
            ours.close()
            if not self._ending():
                self.failure = error
            return
        finally:
            theirs.close()
        self.running[ours] = (number, slot, task, process)
        self.display.begin(number, task.label)

    def _read(self, connection: Connection) -> bool:
        """Take one message; return whether it was the last."""
        number, _, task, process = self.running[connection]
        try:
            kind, content = connection.recv()
        except (EOFError, OSError):  # OSError: it died while it sent
            process.join()
            if not self._ending():
                self.failure = _death(task.label, process.exitcode)
            return True
        if kind == "progress":
            self.display.update(number, *content)
        elif kind == "say":
            self.display.say(content)
        elif kind == "stopped" and not self._ending():  # a signal to the worker alone
            self.failure = Stopped(signal.SIGTERM, content)
        elif kind in FAILURES and not self.failure:
            self.failure = FAILURES[kind](content)
        return kind not in ("progress", "say")

    def _end(self, connection: Connection) -> int:
        """Close a worker; return its slot."""
        number, slot, _, process = self.running.pop(connection)
        connection.close()
        process.join()
        self.display.end(number)
        return slot


def _death(label: str, code: int | None) -> Exception:
    """Return the error for a worker that ended without a last message."""
    if code is not None and 0 <= code < 255:  # 255: not known
        return RuntimeError(f"{label}: its process failed before its work began (exit code {code}); see above")
    how = "" if code in (None, 255) else f" by {signal.Signals(-code).name}"
    return UserError(
        f"{label}: its process was killed{how}, perhaps for want of memory: set fewer IMIX_WORKERS, and run it again "
        "to continue"
    )


def _worker(task: Task, slot: int, connection: Connection) -> None:
    """Do one task in this process, and send reports, then how it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # work that can save its state sets its own handler
    threading.Thread(target=_end_with_parent, daemon=True).start()
    speak_through(lambda text: _send(connection, "say", text))
    try:
        resolve_name(task.work)(slot, _reporter(connection), *task.args)
        message = ("done", "")
    except Stopped as stopped:
        message = ("stopped", str(stopped))
    except Exception as error:
        text = explained(error)
        label = "" if text is None or task.label in text else f"{task.label}: "
        crash = f"{task.label}:\n{traceback.format_exc()}"
        message = ("crash", crash) if text is None else ("error", label + text)
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
            _send(connection, "progress", (done, total, text))

    return report


def _send(connection: Connection, kind: str, content: Any) -> None:
    with suppress(OSError):  # the parent is gone: `_end_with_parent` ends the work
        connection.send((kind, content))


def _end_with_parent() -> None:
    """Wait until the parent has ended, however it did; then end this worker as a signal would."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
