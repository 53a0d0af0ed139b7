"""Speed as ratios: ours against a plain reference, timed in turn. Run as ``python -m benchmarks.<name>``."""

import os
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import threadpoolctl
import torch

from imix import runtime

Times = dict[str, list[float]]


def race(sides: Mapping[str, Callable[[], object]], rounds: int) -> Times:
    """Seconds of every side, once a round in turn, after a warm-up each.

    With one thread it is the processor's time, which other processes of the machine do not lengthen by waiting.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for function in sides.values():
        function()
    times: Times = {name: [] for name in sides}
    for _ in range(rounds):
        for name, function in sides.items():
            started = clock()
            function()
            times[name].append(clock() - started)
    return times


def ratio(ours: list[float], theirs: list[float]) -> str:
    """How many times as fast ours is, round by round: median, and range."""
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def excess(longer: list[float], shorter: list[float]) -> str:
    """How much longer one takes, round by round, in percent: median, and range."""
    shares = [100 * (a / b - 1) for a, b in zip(longer, shorter, strict=True)]
    return f"{statistics.median(shares):+.1f} % ({min(shares):+.1f} to {max(shares):+.1f})"


def compare(
    label: str, pairs: int, ours: Callable[[], object], reference: Callable[[], object], rounds: int = 7
) -> None:
    """Time both in turn, after one warm-up each; print how many times as fast ours is.

    Args:
        label: of the line. pairs: of views that the work makes. ours, reference: the same work, done once.
        rounds: timed.
    """
    times = race({"ours": ours, "reference": reference}, rounds)
    mine, theirs = (pairs / statistics.median(side) for side in times.values())
    found = ratio(times["ours"], times["reference"])
    print(
        f"{label}, {pairs} pairs: {found} times as fast, n = {rounds}; "
        f"{mine:,.0f} against {theirs:,.0f} pairs a second",
        flush=True,
    )


def peak() -> float:
    """Peak memory of this process so far, MB; on Linux not from getrusage, which begins with the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        return float(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def start() -> torch.device:
    """Seed, set the threads, print what this machine is.

    Only the processor is timed: the references are written for it.
    """
    os.environ["IMIX_DEVICE"] = "cpu"
    device = runtime.configure()
    torch.manual_seed(0)
    threadpoolctl.threadpool_limits(
        torch.get_num_threads()
    )  # the references' too: NumPy's products start threads of their own
    print(
        f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}"
    )
    return device
