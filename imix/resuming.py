"""Unfinished trainings on disk: one file each, whole or not there, checked when read, and nothing in it is code."""

import hashlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import torch as safetensors
from torch import Tensor

from imix.errors import UserError
from imix.files import replacing
from imix.runtime import machine, resume_folder

DONE = ".done"  # what a state ends in whose training is
STATES = 20  # files kept of unfinished trainings; the oldest go first
DIGEST = hashlib.sha256().digest_size  # bytes that stand before the state: its SHA-256

_claims: list[IO[bytes]] = []  # open until this process ends, and what they lock with them


def resume_path(identity: dict[str, Any], data_sha256: str, device: torch.device) -> Path:
    """Where a training's state lies: named by the hash of its settings, its data, this code, torch's version and the machine.

    Another processor or number of threads gives other roundings, so that what it continued would be neither's result.
    """
    code = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.rglob("*.py")))
    content = json.dumps([identity, data_sha256, torch.__version__, machine(device)], sort_keys=True).encode() + code
    cell = "-".join(str(identity[key]) for key in ("dataset", "method", "mix", "seed"))
    return resume_folder() / f"{hashlib.sha256(content).hexdigest()[:24]}.{cell}.state"


def finish(resume: Path) -> None:
    """Set the state of a training aside whose outs are written: until DVC knows of them it would start afresh after a kill."""
    if resume.exists():
        resume.replace(resume.with_suffix(DONE))


def forget(dataset: str, method: str, mix: str, seed: int) -> None:
    """Remove what `finish` set aside of a cell and seed: its evaluation runs, so DVC has the outs."""
    for path in resume_folder().glob(f"*.{dataset}-{method}-{mix}-{seed}{DONE}"):
        path.unlink(missing_ok=True)


def claim(resume: Path, label: str) -> None:
    """Keep other processes off a training until this one ends, however it ends: a lock on one byte of the directory's ``lock``.

    Windows has no such locks; there, two would do the same work and write the same bytes.

    Raises:
        UserError: another process is at this training.
    """
    try:
        import fcntl
    except ImportError:
        return
    resume.parent.mkdir(parents=True, exist_ok=True)
    _claims.append((resume.parent / "lock").open("ab"))
    try:
        fcntl.lockf(_claims[-1], fcntl.LOCK_EX | fcntl.LOCK_NB, 1, int(resume.stem[:12], 16))
    except (BlockingIOError, PermissionError):
        raise UserError(f"{label}: another process is at this training; wait for it, or end it (it saves) and run this again") from None


def save(tensors: dict[str, Tensor], facts: dict[str, Any], resume: Path) -> None:
    """Save a state, on the disk before it takes the last one's place; a full disk costs this save, not the training."""
    text = torch.frombuffer(bytearray(json.dumps(facts).encode()), dtype=torch.uint8)
    content = safetensors.save({name: tensor.contiguous() for name, tensor in tensors.items()} | {"facts": text})
    try:
        with replacing(resume) as temporary, temporary.open("wb") as file:
            file.write(hashlib.sha256(content).digest() + content)
            file.flush()
            os.fsync(file.fileno())
        # and the oldest go, as does what killed processes left of writing them
        for old in sorted([path for kind in ("*.state", f"*{DONE}", ".*.tmp") for path in resume.parent.glob(kind)], key=_age)[:-STATES]:
            old.unlink(missing_ok=True)
    except OSError as error:
        print(f"imix: warning: {resume}: not saved ({error}); the training goes on", file=sys.stderr, flush=True)


def _age(path: Path) -> float:
    """When a file was written; 0 if another process has removed it."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def load(resume: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What `save` was given, or None if nothing was saved.

    Raises:
        UserError: not, or no longer, what `save` wrote.
    """
    try:
        content = (resume if resume.exists() else resume.with_suffix(DONE)).read_bytes()
    except FileNotFoundError:
        return None
    if hashlib.sha256(content[DIGEST:]).digest() != content[:DIGEST]:
        raise UserError(f"{resume}: not a saved training, or damaged; remove it to start afresh")
    tensors = safetensors.load(content[DIGEST:])
    return tensors, json.loads(bytes(tensors.pop("facts").numpy()))


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Note SIGINT and SIGTERM in the list that is yielded instead of dying of them; a second one is an interrupt at once."""
    noted: list[int] = []

    def note(number: int, frame: object) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)

    if threading.current_thread() is not threading.main_thread():  # where Python lets nobody listen
        yield noted
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
