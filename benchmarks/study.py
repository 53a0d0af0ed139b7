"""How long a small study takes with `imix run` and with `dvc repro`, in turn, each time from nothing.

    python -m benchmarks.study [--rounds 2] [--epochs 10] [--workers N]

The study has diamonds, two methods with and without i-Mix, two seeds, the baseline and the report. Two pairs: both with
their defaults, and both with one training at a time in a stage (IMIX_WORKERS=1). Needs the `embedded` extra.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests import clones

GRID = {"datasets": ["diamonds"], "methods": ["npair", "moco"], "seeds": [0, 1], "supervised": []}
SIDES = {"imix run": ["imix", "run"], "dvc repro": ["dvc", "repro", "-q"]}


def clean(folder: Path) -> None:
    """Forget all that ran but the fetched files."""
    for path in (".dvc/cache", ".dvc/tmp", ".imix", "data", "reports", "dvc.lock"):
        shutil.rmtree(folder / path, ignore_errors=True) if (folder / path).is_dir() else (folder / path).unlink(True)
    clones.git(folder, "checkout", "-q", ".")


def seconds(folder: Path, command: list[str], **variables: str) -> tuple[float, float]:
    """Run a command from nothing; return its seconds, and the processor's seconds of all its processes."""
    clean(folder)
    environment = clones.environment(folder) | variables
    before, began = os.times(), time.monotonic()
    subprocess.run([sys.executable, "-m", *command], cwd=folder, env=environment, check=True, capture_output=True)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return time.monotonic() - began, spent


def main() -> None:
    """Measure and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    args = parser.parse_args()
    sides = SIDES | {"imix run": [*SIDES["imix run"], "--workers", str(args.workers)]}
    with tempfile.TemporaryDirectory() as temporary:
        folder = clones.clone(Path(temporary, "study"), args.epochs, GRID)
        for name, variables in (("defaults", {}), ("IMIX_WORKERS=1", {"IMIX_WORKERS": "1"})):
            times = {side: [] for side in sides}
            for _ in range(args.rounds):
                for side, command in sides.items():
                    times[side].append(seconds(folder, command, **variables))
                    wall, spent = times[side][-1]
                    print(f"{name}: {side} {wall:.0f} s, {spent:.0f} s of processors", flush=True)
            pairs = list(zip(*times.values(), strict=True))
            for what, place in (("time", 0), ("processors", 1)):
                ratios = [ours[place] / theirs[place] for ours, theirs in pairs]
                median, least, most = statistics.median(ratios), min(ratios), max(ratios)
                print(f"{name}: {what} {median:.2f} of dvc repro's ({least:.2f} to {most:.2f}), n = {args.rounds}")


if __name__ == "__main__":
    main()
