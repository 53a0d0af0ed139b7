"""The machine's side of a run: device, threads, precision, determinism.

Machine facts come from the environment.
"""

import math
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# CUDA's matrix products read this when they start; without it they are not deterministic
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch

from imix import arithmetic
from imix.errors import UserError


def configure(slot: int = 0) -> torch.device:
    """Make torch deterministic, set its threads, and return the device.

    ``IMIX_DEVICE`` names the device (default: cuda where there is one, else cpu). ``IMIX_THREADS``,
    else ``OMP_NUM_THREADS``, sets a process's threads; the default is 1, so that a result does not
    depend on how many cores there are.

    Args:
        slot: the number of this process among those that run side by side, which share the GPUs.

    Raises:
        UserError: a device that is not there, or a number of threads that is none.
    """
    torch.set_num_threads(threads())
    set_precision("float32")  # torch's own default lets convolutions use TF32
    device = _device(slot)
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False
    return device


def set_precision(precision: str) -> None:
    """Compute float32 products in TF32 ("tf32", on GPUs that have it), else in float32.

    Sets every backend: one that other code of this process has set does not follow
    ``torch.backends``.
    """
    for backend in _backends():
        backend.fp32_precision = "tf32" if precision == "tf32" else "ieee"


@contextmanager
def kept_precision() -> Iterator[None]:
    """Restore the precision of every backend when the block ends."""
    before = [backend.fp32_precision for backend in _backends()]
    try:
        yield
    finally:
        for backend, precision in zip(_backends(), before, strict=True):
            backend.fp32_precision = precision


def _backends() -> list[Any]:
    gpu, cpu = torch.backends.cudnn, torch.backends.mkldnn
    parts = [torch.backends.cuda.matmul, gpu, gpu.conv, gpu.rnn, cpu, cpu.conv, cpu.matmul, cpu.rnn]
    return [torch.backends, *parts]


def _device(slot: int) -> torch.device:
    name = os.environ.get("IMIX_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        if not re.fullmatch(r"cpu|cuda(:[0-9]{1,2})?", name):
            raise RuntimeError("no such kind of device")
        device = torch.device(f"cuda:{slot % max(1, torch.cuda.device_count())}" if name == "cuda" else name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"IMIX_DEVICE = {name!r}: not a device of this machine ({reason}); must be cpu, cuda or cuda:N"
        ) from None
    return device


def threads() -> int:
    """Return the threads of one process.

    Raises:
        UserError: ``IMIX_THREADS`` or ``OMP_NUM_THREADS`` is no such number.
    """
    return _count("IMIX_THREADS", _count("OMP_NUM_THREADS", 1))


def workers() -> int:
    """Return how many trainings run side by side: ``IMIX_WORKERS``, else one per GPU or core.

    Raises:
        UserError: ``IMIX_WORKERS`` is no such number.
    """
    if gpus := _gpus():
        return _count("IMIX_WORKERS", gpus)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return _count("IMIX_WORKERS", max(1, cores // threads()))


def _gpus() -> int:
    """Return the number of GPUs that trainings are spread over."""
    name = os.environ.get("IMIX_DEVICE") or "cuda"
    if not name.startswith("cuda") or not torch.cuda.is_available():
        return 0
    return torch.cuda.device_count() if name == "cuda" else 1


def free_memory(device: torch.device) -> float:
    """Return the bytes of a device's free memory for each process that runs on it.

    Return infinity for a CPU.
    """
    if device.type != "cuda":
        return math.inf
    return torch.cuda.mem_get_info(device)[0] / math.ceil(workers() / max(1, _gpus()))


def _count(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not re.fullmatch(r"[1-9][0-9]{0,3}", text) or int(text) > 1024:
        raise UserError(f"{variable} = {text!r}: must be a whole number from 1 to 1024")
    return int(text)


def rounding(device: torch.device) -> dict[str, Any]:
    """Return what decides, besides the code, how numbers are rounded here.

    Equal values give equal bytes.

    On a GPU neither the processor nor the threads count; with portable arithmetic the processor
    does not.
    """
    if device.type == "cuda":
        return {"torch": torch.__version__, "device": torch.cuda.get_device_name(device)}
    capability = torch.backends.cpu.get_cpu_capability()
    portable = arithmetic.portable() and capability == "AVX2"  # not on ARM, nor on processors without AVX2
    return {
        "torch": torch.__version__,
        "device": platform.machine(),
        "threads": torch.get_num_threads(),
        "arithmetic": "portable" if portable else [processor(), capability],
    }


def processor() -> str:
    """Return the processor's model, where the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor())
