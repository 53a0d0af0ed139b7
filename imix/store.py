"""The store: finished and unfinished work by identity, checksummed, bounded, and shared by all stages.

    <store>/trainings/<key>/     about.json, and state (unfinished) or result.json and its files (finished)
    <store>/evaluations/<key>/   the same for the metrics of one encoder
    <store>/records/<encoder's sha256>.json   what a training took, and where it ran
    <store>/lock                 one byte per entry, locked while a process works on it

``IMIX_STORE`` names the folder (default ``.imix``), ``IMIX_STORE_GB`` its bound (default 10). Only files of
this layout are read or removed; whatever else lies there is left alone. Nothing is unpickled.
"""

import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from safetensors import torch as safetensors
from torch import Tensor

from imix.errors import UserError
from imix.files import replacing, sha256, write_bytes, write_json

KINDS = ("trainings", "evaluations")
KEY = re.compile(r"[0-9a-f]{24}")
DIGEST = hashlib.sha256().digest_size  # bytes before a state: its SHA-256
WAIT = 1.0  # seconds between two looks at an entry that another process works on

_lock_file: IO[bytes] | None = None  # open until this process ends, and with it all that it has locked


class Entry(NamedTuple):
    """One piece of work in the store."""

    kind: str
    key: str
    folder: Path

    @property
    def state(self) -> Path:
        """The file of an unfinished training."""
        return self.folder / "state"

    def finished(self) -> bool:
        """Whether the work is done."""
        return (self.folder / "result.json").exists()


def root() -> Path:
    """Return the store's folder.

    Raises:
        UserError: ``IMIX_STORE`` names a file.
    """
    folder = Path(os.environ.get("IMIX_STORE") or ".imix")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"IMIX_STORE = {str(folder)!r}: must be a folder, or a path where one can be made")
    return folder


def bound() -> float:
    """Return how many bytes the store may hold.

    Raises:
        UserError: ``IMIX_STORE_GB`` is not a positive number.
    """
    return 1e9 * _number("IMIX_STORE_GB", 10.0, 0.001)


def save_seconds() -> float:
    """Return the seconds between two saves of an unfinished training: ``IMIX_SAVE_SECONDS``, 60 by default.

    Raises:
        UserError: not a number from 0, to save after every step, to 1e9.
    """
    return _number("IMIX_SAVE_SECONDS", 60.0, 0.0)


def _number(variable: str, default: float, least: float) -> float:
    text = os.environ.get(variable) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= 1e9:
        raise UserError(f"{variable} = {text!r}: must be a number from {least:g} to 1e9")
    return value


def entry(kind: str, key: str) -> Entry:
    """Return the entry of some work, which need not be there yet."""
    return Entry(kind, key, root() / kind / key)


@contextmanager
def claimed(work: Entry, label: str) -> Iterator[None]:
    """Keep other processes off an entry; wait while another one works on it.

    The lock goes with the process, however it ends. File systems without locks give a warning, and two
    processes there may do the same work, which writes the same bytes.
    """
    locked = _lock(work, label)
    try:
        yield
    finally:
        if locked:
            _fcntl(work, unlock=True)


def _lock(work: Entry, label: str) -> bool:
    for attempt in range(10**9):
        try:
            _fcntl(work)
            return True
        except (BlockingIOError, PermissionError):
            if attempt == 0:
                _say(f"{label}: another process is at this; waiting for it")
            time.sleep(WAIT)
        except (ImportError, OSError) as error:
            _say(f"warning: {root()}: cannot be locked ({error}); do not run the same work twice at once")
            return False
    return False


def _fcntl(work: Entry, unlock: bool = False) -> None:
    """Lock or unlock the byte of an entry. Closing the file would drop every lock of this process."""
    import fcntl  # not on Windows

    global _lock_file
    if _lock_file is None:
        root().mkdir(parents=True, exist_ok=True)
        _lock_file = (root() / "lock").open("ab")
    flags = fcntl.LOCK_UN if unlock else fcntl.LOCK_EX | fcntl.LOCK_NB
    fcntl.lockf(_lock_file, flags, 1, int(work.key[:12], 16))


def save_state(work: Entry, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Save an unfinished training; a full disk costs this save, not the training.

    Args:
        facts: what JSON can write.
    """
    content = safetensors.save(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, {"facts": json.dumps(facts)}
    )
    try:
        with replacing(work.state) as temporary, temporary.open("wb") as file:
            file.write(hashlib.sha256(content).digest() + content)
            file.flush()
            os.fsync(file.fileno())  # on the disk before it takes the last one's place
        prune(keep=work)
    except OSError as error:
        _say(f"warning: {work.state}: not saved ({error}); the training goes on")


def load_state(work: Entry) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return what `save_state` was given, or None if nothing was saved.

    Raises:
        UserError: the file is damaged.
    """
    try:
        content = work.state.read_bytes()
    except FileNotFoundError:
        return None
    if hashlib.sha256(content[DIGEST:]).digest() != content[:DIGEST]:
        raise UserError(f"{work.state}: damaged, or not a saved training; remove it to train from the start")
    size = int.from_bytes(content[DIGEST : DIGEST + 8], "little")
    header = json.loads(content[DIGEST + 8 : DIGEST + 8 + size])
    return safetensors.load(content[DIGEST:]), json.loads(header["__metadata__"]["facts"])


def finish(work: Entry, files: Mapping[str, bytes], about: Mapping[str, Any]) -> None:
    """Keep the results of some work, and drop its state.

    Args:
        files: contents by name. about: what `python -m imix store` shows; not part of the results.
    """
    for name, content in files.items():
        write_bytes(work.folder / name, content)
    write_json(work.folder / "about.json", about)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    write_json(work.folder / "result.json", sums)  # the last: with it the entry is finished
    for path in [work.state, *work.folder.glob(".state.*.tmp")]:
        path.unlink(missing_ok=True)
    prune(keep=work)


def results(work: Entry) -> dict[str, Path]:
    """Return the files of finished work by name.

    Raises:
        UserError: one is missing or damaged.
    """
    again = f"remove {work.folder} to do this work again"
    try:
        sums = json.loads((work.folder / "result.json").read_text())
        wrong = [name for name, value in sums.items() if sha256(work.folder / name) != value]
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{work.folder}: cannot be read ({error}); {again}") from None
    if wrong:
        raise UserError(f"{work.folder / wrong[0]}: damaged; {again}")
    os.utime(work.folder / "result.json")  # used now: pruned last
    return {name: work.folder / name for name in sums}


def entries() -> list[tuple[Entry, float, int]]:
    """Return every entry with the time of its last use and its size in bytes, the latest first."""
    found = []
    for kind in KINDS:
        folder = root() / kind
        for path in folder.iterdir() if folder.is_dir() else ():
            if KEY.fullmatch(path.name) and path.is_dir():
                stats = [status for file in path.iterdir() if (status := _status(file))]
                used = max((status.st_mtime for status in stats), default=0.0)
                found.append((Entry(kind, path.name, path), used, sum(status.st_size for status in stats)))
    return sorted(found, key=lambda each: -each[1])


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:  # another process has removed it
        return None


def prune(limit: float | None = None, keep: Entry | None = None) -> int:
    """Remove the entries that were used longest ago until the store is within ``limit`` bytes; return how many.

    Args:
        limit: `bound()` by default. keep: an entry that stays; those that other processes work on stay, too.
    """
    total, removed = 0, 0
    for each, _, size in entries():
        total += size
        if total <= (bound() if limit is None else limit) or each == keep or _busy(each):
            continue
        shutil.rmtree(each.folder, ignore_errors=True)
        total, removed = total - size, removed + 1
    return removed


def _busy(work: Entry) -> bool:
    """Whether another process works on an entry."""
    try:
        _fcntl(work)
        _fcntl(work, unlock=True)
    except (BlockingIOError, PermissionError):
        return True
    except (ImportError, OSError):
        pass
    return False


def record(encoder: str, content: Mapping[str, Any]) -> None:
    """Write down what a training took and where it ran, by the SHA-256 of its encoder; no DVC output."""
    write_json(root() / "records" / f"{encoder}.json", content)


def git_revision(folder: Path = Path()) -> str:
    """Return the commit checked out, with ``+changes`` where imix or stages differ from it; "unknown" outside git."""

    def git(*command: str) -> str:
        done = subprocess.run(["git", "-C", str(folder), *command], capture_output=True, text=True)
        if done.returncode:
            if "not a git repository" not in done.stderr:
                _say(f"warning: git: {' '.join(done.stderr.split())}; the revision is recorded as unknown")
            raise OSError
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", "imix", "stages") else "")
    except OSError:
        return "unknown"


def _say(text: str) -> None:
    print(f"imix: {text}", file=sys.stderr, flush=True)
