"""Errors that a user can mend, and how a command ends on them."""

import argparse
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}  # full, or not ours to write


class UserError(Exception):
    """A mistake outside the code: settings, archives, checkpoints or environment.

    Its text is one line that names the file or variable, the value and what is allowed.
    """


class Once(argparse.Action):
    """Reject a repeated option; argparse would silently keep the last one."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        """Store the value."""
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option} is given twice; give it once")
        setattr(namespace, self.dest, values)


class Options(argparse.ArgumentParser):
    """A command line whose mistakes are UserErrors; options cannot be shortened."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Raise a UserError that names the mistake and what is allowed."""
        allowed = " ".join(self.format_usage().removeprefix("usage:").split())
        raise UserError(f"{message}; usage: {allowed}")


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """A signal asked for an end, and the work was saved.

    ``signal``: its number; the text says how to go on.
    """

    def __init__(self, signal: int, text: str) -> None:
        super().__init__(text)
        self.signal = signal


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Yield a list that SIGINT and SIGTERM are noted in, instead of ending this process."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # where Python takes no handlers
        yield noted
        return
    before = {
        number: signal.signal(number, lambda number, frame: noted.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def explained(error: BaseException) -> str | None:
    """Return the one line for an error that a user can mend; None for all others."""
    if isinstance(error, UserError):
        return str(error)
    # torch's OutOfMemoryError is a RuntimeError; torch is not imported here
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate" in str(error):
        return (
            "out of memory: use fewer rows, a smaller batch_size or encoder, fewer IMIX_WORKERS or another IMIX_DEVICE"
        )
    if isinstance(error, OSError) and error.errno in DISK:
        return f"{error.filename or 'the disk'}: {error.strerror}"
    return None


def exit_cleanly(main: Callable[[], None]) -> None:
    """Run ``main``.

    A user's mistake becomes one line and exit code 1, a signal 128 + its number.
    """
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # nobody reads on, as behind `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except Stopped as stopped:
        print(f"imix: {stopped}", file=sys.stderr)
        sys.exit(128 + stopped.signal)
    except KeyboardInterrupt:
        print("imix: interrupted; finished work is kept", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if (text := explained(error)) is None:
            raise
        sys.exit(f"imix: error: {text}")
