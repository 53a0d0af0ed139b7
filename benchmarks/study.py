"""How long a small study takes with `imix run` and with `dvc repro`, in turn, each time from nothing.

    python -m benchmarks.study [--rounds 2] [--epochs 10] [--workers N] [--pairs one]

The study is the part of the default study that trains and evaluates diamonds: both augmentations, three methods, plain
and i-Mix, six seeds; 27 stages. Two pairs: both commands with their defaults, and both with one training at a time in a
stage (IMIX_WORKERS=1). Needs the `embedded` extra.
"""

import argparse
import ctypes
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from tests import clones

GRID = {
    "datasets": ["diamonds"], "augmentation": ["augmented", "clean"], "methods": ["npair", "moco", "byol"],
    "mixes": ["none", "imix"], "seeds": [0, 1, 2, 3, 4, 5], "supervised": [],
}  # fmt: skip
SUBREAPER = 36
PAIRS = {"defaults": {}, "one": {"IMIX_WORKERS": "1"}}
SIDES = {"imix run": ["imix", "run", "evaluate"], "dvc repro": ["dvc", "repro", "-q", "evaluate"]}


def clean(folder: Path) -> None:
    """Forget all that ran."""
    for path in (".dvc/cache", ".dvc/tmp", ".imix", "data", "reports", "dvc.lock"):
        shutil.rmtree(folder / path, ignore_errors=True) if (folder / path).is_dir() else (folder / path).unlink(True)
    clones.git(folder, "checkout", "-q", ".")


def seconds(folder: Path, command: list[str], **variables: str) -> tuple[float, float, str]:
    """Run a command from nothing; return its seconds, those of the processor, and what it printed."""
    clean(folder)
    environment = clones.environment(folder) | variables
    before, began = os.times(), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    took = time.monotonic() - began
    with suppress(ChildProcessError):
        while True:  # processes that their parents did not wait for
            os.wait()
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return took, spent, done.stderr


def shares(wall: float, said: str, workers: int) -> str:
    """Return how much of its workers' time a run gave to each kind of stage."""
    spent = Counter()
    for kind, took in re.findall(r"^imix run: (\w+)\S*: ([\d.]+) s$", said, re.MULTILINE):
        spent[kind] += float(took) / wall / workers
    rest = 1 - sum(spent.values())
    return ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in (*spent.most_common(), ("none", rest)))


def main() -> None:
    """Measure and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--pairs", nargs="*", choices=PAIRS, help="defaults, one (training at a time); default: both")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    args = parser.parse_args()
    ctypes.CDLL(None).prctl(SUBREAPER, 1)  # Linux: adopt, and so count, processes whose parents have ended
    sides = SIDES | {"imix run": [*SIDES["imix run"], "--workers", str(args.workers)]}
    with tempfile.TemporaryDirectory() as temporary:
        folder = clones.clone(Path(temporary, "study"), args.epochs, GRID)
        for name in args.pairs or PAIRS:
            times = {side: [] for side in sides}
            for _ in range(args.rounds):
                for side, command in sides.items():
                    wall, spent, said = seconds(folder, command, **PAIRS[name])
                    times[side].append((wall, spent))
                    where = f"; of the workers' time: {shares(wall, said, args.workers)}" if side == "imix run" else ""
                    print(f"{name}: {side} {wall:.0f} s, {spent:.0f} s of processors{where}", flush=True)
            for what, place in (("time", 0), ("processors' time", 1)):
                ratios = [ours[place] / theirs[place] for ours, theirs in zip(*times.values(), strict=True)]
                spread = f"({min(ratios):.2f} to {max(ratios):.2f}), n = {len(ratios)}"
                print(f"{name}: {statistics.median(ratios):.2f} of dvc repro's {what} {spread}", flush=True)


if __name__ == "__main__":
    main()
