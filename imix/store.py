"""The store: finished and unfinished work by identity, checksummed, bounded, and shared by all stages.

    <store>/trainings/<key>/     about.json, and state (unfinished) or result.json and its files (finished)
    <store>/evaluations/<key>/   the same for the metrics of one encoder
    <store>/records/<encoder's sha256>.json   what a training took, and where it ran
    <store>/lock                 one byte per entry, locked while a process works on it

``IMIX_STORE`` names the folder (default ``.imix``), ``IMIX_STORE_GB`` its bound (default 10). Only files of
this layout are read or removed; all others are left alone. Nothing is unpickled.
"""

import hashlib
import json
import math
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, NamedTuple

from safetensors import torch as safetensors
from torch import Tensor

from imix.errors import UserError
from imix.files import replacing, sha256, write_bytes, write_json
from imix.progress import say

KINDS = ("trainings", "evaluations")
KEY = re.compile(r"[0-9a-f]{24}")
# of an entry's files
NAMES = ("about.json", "state", "result.json", "encoder.safetensors", "history.csv", "metrics.json")
OURS = re.compile(r"(?:{0})|\.(?:{0})\.\d+\.tmp".format("|".join(map(re.escape, NAMES))))  # temporary ones too
DIGEST = hashlib.sha256().digest_size  # bytes before a state: its SHA-256
WAIT = 1.0  # seconds between two looks at an entry that another process works on

_lock_files: dict[Path, IO[bytes]] = {}  # open until this process ends: closing one would drop all its locks
_held: set[Path] = set()  # folders of the entries that this process has claimed


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


def prepare(work: Entry) -> None:
    """Check, before long work, all that keeping its results needs; remove what a killed save left behind.

    Raises:
        UserError: the store cannot be written to, or its variables make no sense.
    """
    bound(), save_seconds()
    try:
        work.folder.mkdir(parents=True, exist_ok=True)
        if not os.access(work.folder, os.W_OK | os.X_OK):
            raise PermissionError("no permission")
        for path in work.folder.glob(".state.*.tmp"):
            path.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"{work.folder}: cannot be written ({reason}); set IMIX_STORE to a folder that can be"
        ) from None


@contextmanager
def claimed(work: Entry, label: str) -> Iterator[None]:
    """Keep other processes off an entry; wait while another one works on it.

    The lock goes with the process, however it ends. File systems without locks give a warning, and two
    processes there may do the same work, which writes the same bytes.
    """
    locked = _lock(work, label)
    _held.add(work.folder)
    try:
        yield
    finally:
        _held.discard(work.folder)
        if locked:
            _fcntl(work, unlock=True)


def _lock(work: Entry, label: str) -> bool:
    """Lock an entry, and wait until that is possible; return False where it never is."""
    waited = False
    try:
        _open_lock()
        while not _fcntl(work):
            if not waited:
                say(f"{label}: another process is at this; waiting for it")
            waited = True
            time.sleep(WAIT)
        return True
    except (ImportError, OSError) as error:
        _warn_of_locks(root(), str(error))
        return False


@cache
def _warn_of_locks(folder: Path, reason: str) -> None:
    say(f"warning: {folder}: cannot be locked ({reason}); do not run the same work twice at once")


def _open_lock() -> IO[bytes]:
    """Return the store's lock file, opened once."""
    path = root().absolute() / "lock"
    if path not in _lock_files:
        path.parent.mkdir(parents=True, exist_ok=True)
        _lock_files[path] = path.open("ab")
    return _lock_files[path]


def _fcntl(work: Entry, unlock: bool = False) -> bool:
    """Lock or unlock the byte of an entry; return False where another process has locked it.

    Raises:
        ImportError, OSError: locks are not possible here.
    """
    import fcntl  # not on Windows

    flags = fcntl.LOCK_UN if unlock else fcntl.LOCK_EX | fcntl.LOCK_NB
    file = _open_lock()
    try:
        fcntl.lockf(file, flags, 1, int(work.key[:12], 16))
    except (BlockingIOError, PermissionError):  # EAGAIN or, on some systems, EACCES
        return False
    return True


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
        say(f"warning: {work.state}: not saved ({error}); the training goes on")


def load_state(work: Entry) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return what `save_state` was given, or None if nothing was saved.

    Raises:
        UserError: the file is damaged.
    """
    try:
        content = work.state.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{work.state}: cannot be read ({error.strerror}); remove it to train from the start") from None
    if hashlib.sha256(content[DIGEST:]).digest() != content[:DIGEST]:
        raise UserError(f"{work.state}: damaged, or not a saved training; remove it to train from the start")
    size = int.from_bytes(content[DIGEST : DIGEST + 8], "little")
    header = json.loads(content[DIGEST + 8 : DIGEST + 8 + size])
    return safetensors.load(content[DIGEST:]), json.loads(header["__metadata__"]["facts"])


def finish(work: Entry, files: Mapping[str, bytes], about: Mapping[str, Any]) -> None:
    """Keep the results of some work, and drop its state.

    Args:
        files: contents by name, of those in `NAMES`.
        about: what `imix store` shows; not part of the results.
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
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{work.folder}: cannot be read ({error}); {again}") from None
    if wrong or not sums:
        raise UserError(f"{work.folder / (wrong or ['result.json'])[0]}: damaged; {again}")
    with suppress(OSError):  # a store that can only be read
        os.utime(work.folder / "result.json")  # used now: pruned last
    return {name: work.folder / name for name in sums}


def entries() -> list[tuple[Entry, float, int]]:
    """Return every entry with the time of its last use and its size in bytes, the latest first."""
    found = []
    for kind in KINDS:
        for path in _listed(root() / kind):
            stats = [status for file in _files(path) if (status := _status(file))] if KEY.fullmatch(path.name) else []
            if stats:
                used = max(status.st_mtime for status in stats)
                found.append((Entry(kind, path.name, path), used, sum(status.st_size for status in stats)))
    return sorted(found, key=lambda each: -each[1])


def _files(folder: Path) -> list[Path]:
    """Return the files of an entry; others that are in its folder are not the store's."""
    return [path for path in _listed(folder) if OURS.fullmatch(path.name)]


def _listed(folder: Path) -> list[Path]:
    """Return what is in a folder; nothing of one that is a file, or that another process has removed."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:  # another process has removed it
        return None


def prune(limit: float | None = None, keep: Entry | None = None) -> int:
    """Remove the entries that were used longest ago until the store is within ``limit`` bytes; return how many.

    Args:
        limit: `bound()` by default. keep: an entry that stays; those that are being worked on stay, too.
    """
    limit, removed, found = bound() if limit is None else limit, 0, entries()
    total = sum(size for *_, size in found)
    for each, _, size in reversed(found):
        if total <= limit:
            break
        if each == keep or each.folder in _held or not _remove(each):
            continue
        total, removed = total - size, removed + 1
    return removed


def _remove(work: Entry) -> bool:
    """Remove an entry, unless another process works on it; return whether it is gone."""
    try:
        if not _fcntl(work):
            return False
        locked = True
    except (ImportError, OSError):
        locked = False
    # the result's list first: an entry without it is an unfinished one, never a damaged one
    for path in sorted(_files(work.folder), key=lambda path: path.name != "result.json"):
        with suppress(OSError):
            path.unlink(missing_ok=True)
    with suppress(OSError):  # files that are not the store's stay, and their folder with them
        work.folder.rmdir()
    if locked:
        _fcntl(work, unlock=True)
    return not _files(work.folder)


def record(encoder: str, content: Mapping[str, Any]) -> None:
    """Write down what a training took and where it ran, by the SHA-256 of its encoder; no DVC output."""
    write_json(root() / "records" / f"{encoder}.json", content)


@cache
def git_revision(folder: Path = Path()) -> str:
    """Return the commit checked out, with ``+changes`` where imix or stages differ from it.

    "unknown" outside git, and where git fails, which a warning explains.
    """

    def git(*command: str) -> str:
        # optional locks would disturb a git command of the user's; messages are compared, so not translated
        call = ["git", "--no-optional-locks", "-C", str(folder), *command]
        done = subprocess.run(call, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"})
        if done.returncode:
            if "not a git repository" not in done.stderr:
                say(f"warning: git: {' '.join(done.stderr.split())}; the revision is recorded as unknown")
            raise OSError
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", "imix", "stages") else "")
    except OSError:  # that git is not installed, too
        return "unknown"
