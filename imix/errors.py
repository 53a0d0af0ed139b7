"""The one exception that means 'the user can mend this', and how a command ends on it."""

import argparse
import errno
import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}  # full, or not ours to write


class UserError(Exception):
    """A mistake outside the code: settings, archives, checkpoints or environment.

    Its text is one line that names the file or variable, the value and what is allowed.
    """


class Once(argparse.Action):
    """An option that stands once: of two, argparse would take the last without a word."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None) -> None:
        """Note the value."""
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option} stands twice; each option must stand once")
        setattr(namespace, self.dest, values)


class Options(argparse.ArgumentParser):
    """A command line whose mistakes are UserErrors, one line and exit code 1 as all others; no option can be shortened."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Tell the mistake, and what is allowed."""
        allowed = " ".join(self.format_usage().removeprefix("usage:").split())
        raise UserError(f"{message}; usage: {allowed}")


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """A signal asked for an end, and what was done is saved. ``signal``: its number; the text says how to go on."""

    def __init__(self, signal: int, text: str) -> None:
        super().__init__(text)
        self.signal = signal


def exit_cleanly(main: Callable[[], None]) -> None:
    """Run ``main``; a UserError or a disk that takes no more becomes one line on stderr and exit code 1, a signal 128 + its number.

    Python's collector looks less often, and not at all at the end: importing torch leaves it nothing to collect, which it
    takes half a second of every stage to find.
    """
    gc.set_threshold(100_000)
    try:
        main()
        sys.stdout.flush()
    except UserError as error:
        sys.exit(f"imix: error: {error}")
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and type(error).__name__ != "OutOfMemoryError":  # torch's, which is not imported here
            raise
        sys.exit("imix: error: out of memory: fewer rows, a smaller encoder or another IMIX_DEVICE need less")
    except BrokenPipeError:  # nobody reads on, as behind `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        if error.errno not in DISK:
            raise
        sys.exit(f"imix: error: {error.filename or 'the disk'}: {error.strerror}")
    except Stopped as stopped:
        print(f"imix: {stopped}", file=sys.stderr)
        sys.exit(128 + stopped.signal)
    except KeyboardInterrupt:
        print("imix: interrupted; what was finished is kept", file=sys.stderr)
        sys.exit(130)
    finally:
        gc.freeze()
