"""The machine's side of a run: device, threads, precision, seeds, provenance. Machine facts come from the environment."""

import contextlib
import ctypes
import math
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

# read by CUDA's matrix products when they start: without it they are not deterministic
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch

from imix.errors import UserError


class Streams(NamedTuple):
    """Independent host generators of one training, so that plain and i-Mix see the same rows and the same views."""

    order: torch.Generator
    views: torch.Generator
    mixing: torch.Generator


def streams(seed: int) -> Streams:
    """Seed the generators of a training, each from its own place in the seed's sequence."""
    seeds = torch.randint(2**62, (len(Streams._fields),), generator=torch.Generator().manual_seed(seed))
    return Streams(*(torch.Generator().manual_seed(int(s)) for s in seeds))


def configure() -> torch.device:
    """Make torch deterministic, set its threads, and return the device.

    ``IMIX_DEVICE`` (default: cuda where there is one, else cpu) and ``IMIX_THREADS`` (default: the processors this
    process may use, at most 8) say what the machine is to do.

    Raises:
        UserError: a device that is not there, or a number of threads that is none; and whatever else the environment has
            that a training would find out later.
    """
    save_seconds()
    resume_folder()
    torch.set_num_threads(_threads())
    keep_memory()
    name = os.environ.get("IMIX_DEVICE", "cuda" if torch.cuda.is_available() else "cpu")
    try:
        if not re.fullmatch(r"cpu|cuda(:[0-9]{1,2})?", name):
            raise RuntimeError("no such kind of device")
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"IMIX_DEVICE = {name!r}: not a device of this machine ({str(error).splitlines()[0]}); allowed: cpu, cuda, cuda:N"
        ) from None
    if device.type == "cuda":  # the kernels used here are deterministic on the CPU; asking there costs 1.2 s of imports
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False
    return device


def keep_memory() -> None:
    """Let glibc's allocator keep what is freed, elsewhere do nothing: every step frees and wants the same blocks again.

    By default it hands large ones back to the system, which clears every page anew: 2 to 7 percent of a ResNet's step.
    Keeping them takes 5 percent more memory.
    """
    trim_threshold, mmap_max = -1, -4  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_MAX
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(trim_threshold, -1)  # never
        mallopt(mmap_max, 0)


def save_seconds() -> float:
    """Seconds between two saves of an unfinished training: ``IMIX_SAVE_SECONDS``, 60 by default.

    Raises:
        UserError: no number, or a negative one.
    """
    text = os.environ.get("IMIX_SAVE_SECONDS", "60")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= 1e9:
        raise UserError(f"IMIX_SAVE_SECONDS = {text!r}: must be a number of seconds from 0, to save after every step, to 1e9")
    return seconds


def resume_folder() -> Path:
    """Where unfinished trainings and timings lie: ``IMIX_RESUME``, .resume by default.

    Raises:
        UserError: no folder, or one with other files in it: the oldest files of that folder are removed.
    """
    text = os.environ.get("IMIX_RESUME", ".resume")
    folder = Path(text)
    ours = re.compile(r"\.?([0-9a-f]{24}|timings\.json).*|lock|\.gitignore")
    try:
        other = [path.name for path in folder.iterdir() if not ours.fullmatch(path.name)] if folder.exists() else []
    except OSError as error:
        raise UserError(f"IMIX_RESUME = {text!r}: {error.strerror}; must be a folder, or a path where one can be made") from None
    if not text or other:
        raise UserError(f"IMIX_RESUME = {text!r}: must be a folder of its own" + (f"; {min(other)!r} is not ours" if other else ""))
    return folder


def _threads() -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    text = os.environ.get("IMIX_THREADS", str(min(available, 8)))
    if not re.fullmatch(r"[1-9][0-9]{0,3}", text) or int(text) > 1024:
        raise UserError(f"IMIX_THREADS = {text!r}: must be a whole number from 1 to 1024")
    return int(text)


def machine(device: torch.device) -> dict[str, Any]:
    """What decides how numbers are rounded here: results are the same, bit for bit, only where all of this is."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({platform.machine()})"
    return {
        "device": name,
        "processor": _processor(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    """The processor's model, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


def provenance(settings: dict[str, Any], data: dict[str, Any], device: torch.device, seconds: float) -> dict[str, Any]:
    """What produced a result: resolved settings, the data's card, versions, machine, git revision, seconds of training."""
    return {
        "settings": settings,
        "data": data,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        **machine(device),
        "git": git_revision(),
        "seconds": round(seconds, 2),
    }


def git_revision(root: Path = Path()) -> str:
    """The commit checked out at ``root``, with ``+changes`` where imix or stages differ from it; ``unknown`` outside git."""

    def git(*command: str) -> str:
        return subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", "imix", "stages") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
