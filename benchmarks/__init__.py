"""Speed as ratios: ours against a plain reference, timed in turn. Run as ``python -m benchmarks.<name>``."""

import statistics
import time
from collections.abc import Callable

import torch

from imix import runtime


def compare(label: str, ours: Callable[[], object], reference: Callable[[], object], rounds: int = 7) -> None:
    """Time both in turn, after one warm-up each; print how many times as fast ours is.

    Args:
        label: of the line. ours, reference: the same work, done once. rounds: timed pairs.
    """
    ours(), reference()
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for side, function in enumerate((ours, reference)):
            started = time.perf_counter()
            function()
            times[side].append(time.perf_counter() - started)
    ratios = [theirs / mine for mine, theirs in zip(*times, strict=True)]
    mine, theirs = (statistics.median(side) for side in times)
    print(
        f"{label}: {statistics.median(ratios):.2f} times as fast (n = {rounds}, {min(ratios):.2f} to {max(ratios):.2f}); "
        f"{mine * 1e3:.2f} ms against {theirs * 1e3:.2f} ms",
        flush=True,
    )


def start() -> torch.device:
    """Seed, set the threads, say what this machine is."""
    device = runtime.configure(0)
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")
    return device
