"""Speed as ratios: ours against a plain reference, timed in turn. Run as ``python -m benchmarks.<name>``."""

import statistics
import time
from collections.abc import Callable

import torch

from imix import runtime


def compare(label: str, ours: Callable[[], object], reference: Callable[[], object], rounds: int = 7, work: float = 1.0) -> float:
    """Time both in turn, after one warm-up each; print and return how many times as fast ours is.

    Args:
        label: of the line. ours, reference: the same work, done once. rounds: timed pairs.
        work: how much more work ours does than the reference, which times are divided by.
    """
    ours(), reference()
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for side, function in enumerate((ours, reference)):
            started = time.perf_counter()
            function()
            times[side].append(time.perf_counter() - started)
    ratios = [theirs * work / mine for mine, theirs in zip(*times, strict=True)]
    ratio = statistics.median(ratios)
    mine, theirs = (statistics.median(side) for side in times)
    print(
        f"{label}: {ratio:.2f} times as fast (n = {rounds}, {min(ratios):.2f} to {max(ratios):.2f}); "
        f"{mine / work * 1e3:.2f} ms against {theirs * 1e3:.2f} ms",
        flush=True,
    )
    return ratio


def start() -> torch.device:
    """Seed, set the threads, say what this machine is."""
    device = runtime.configure(0)
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")
    return device
