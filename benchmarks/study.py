"""How long a small study takes with `imix run` and with `dvc repro`, in turn, each time from nothing.

    python -m benchmarks.study [--rounds 2] [--epochs 10] [--workers N] [--pairs one]

The study has diamonds without augmentation, two methods with i-Mix and one with labels, two seeds each, the baselines
and the reports. Two pairs: both commands with their defaults, and both with one training at a time in a stage
(IMIX_WORKERS=1). Needs the `embedded` extra.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests import clones

GRID = {"datasets": ["diamonds"], "methods": ["npair", "moco"], "mixes": ["imix"], "seeds": [0, 1]}
PAIRS = {"defaults": {}, "one": {"IMIX_WORKERS": "1"}}
SIDES = {"imix run": ["imix", "run"], "dvc repro": ["dvc", "repro", "-q"]}


def clean(folder: Path) -> None:
    """Forget all that ran."""
    for path in (".dvc/cache", ".dvc/tmp", ".imix", "data", "reports", "dvc.lock"):
        shutil.rmtree(folder / path, ignore_errors=True) if (folder / path).is_dir() else (folder / path).unlink(True)
    clones.git(folder, "checkout", "-q", ".")


def seconds(folder: Path, command: list[str], **variables: str) -> tuple[float, str]:
    """Run a command from nothing; return its seconds, and what it printed."""
    clean(folder)
    environment, began = clones.environment(folder) | variables, time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return time.monotonic() - began, done.stderr


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
    sides = SIDES | {"imix run": [*SIDES["imix run"], "--workers", str(args.workers)]}
    with tempfile.TemporaryDirectory() as temporary:
        folder = clones.clone(Path(temporary, "study"), args.epochs, GRID)
        for name in args.pairs or PAIRS:
            times = {side: [] for side in sides}
            for _ in range(args.rounds):
                for side, command in sides.items():
                    wall, said = seconds(folder, command, **PAIRS[name])
                    times[side].append(wall)
                    where = f"; of the workers' time: {shares(wall, said, args.workers)}" if side == "imix run" else ""
                    print(f"{name}: {side} {wall:.0f} s{where}", flush=True)
            ratios = [ours / theirs for ours, theirs in zip(*times.values(), strict=True)]
            middle, least, most = statistics.median(ratios), min(ratios), max(ratios)
            count = len(ratios)
            print(f"{name}: {middle:.2f} of dvc repro's time ({least:.2f} to {most:.2f}), n = {count}", flush=True)


if __name__ == "__main__":
    main()
