"""All that a GPU has to show, in one call: tests, speed, and the paper's CovType column.

    python -m benchmarks.gpu RESULTS --data FOLDER [--parts tests speed covtype] [--seconds 520] [--tiny]

Each part writes into RESULTS as it goes and is stopped when its time is up, so that partial results are kept;
RESULTS/summary.md names the card and has all tables. ``benchmarks/gpu.sh`` calls this where packages are missing.
"""

import argparse
import contextlib
import os
import platform
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

PARTS = ("tests", "speed", "covtype")
SHARES = {"tests": 0.25, "speed": 0.3}  # of all seconds, at most; the last part has the rest
MARGIN = 30  # seconds that a part has for ending by itself
GRACE = 40  # seconds between asking a part to end and ending it
TABLES = {"speed": ("step", "views", "epoch"), "covtype": ("covtype_cells", "covtype")}


def command(part: str, args: argparse.Namespace, seconds: float) -> list[str]:
    """Return the command line of a part that has so many seconds."""
    python, tiny = [sys.executable, "-m"], ["--tiny"] * args.tiny
    limit = f"--seconds={max(1, seconds - MARGIN):.0f}"
    if part == "tests":
        only = ["-k", "computes and diamonds"] * args.tiny
        return [*python, "pytest", "-o", "addopts=", "-p", "no:cacheprovider", "-q", "-rs", "tests/test_gpu.py", *only]
    if part == "speed":
        return [*python, "benchmarks.gpu_speed", str(args.results), limit, *tiny]
    seeds = ["--seeds=1"] * args.tiny
    return [*python, "benchmarks.gpu_covtype", str(args.data), f"--results={args.results}", limit, *seeds, *tiny]


def run(part: str, args: argparse.Namespace, seconds: float) -> str:
    """Run a part for so many seconds, its output into RESULTS/<part>.log; return how it ended."""
    started = time.monotonic()
    with (args.results / f"{part}.log").open("w") as log:
        process = subprocess.Popen(
            command(part, args, seconds), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                process.wait(seconds if number == signal.SIGTERM else GRACE)
                break
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
        code = process.wait()
    took, text = time.monotonic() - started, (args.results / f"{part}.log").read_text().splitlines()
    last = next((line for line in reversed(text) if line.strip()), "")
    return f"exit code {code} after {took:.0f} s; last line: `{last[:150]}`"


@cache
def machine() -> str:
    """Return what this runs on, as a process of its own says: this one leaves the GPU alone."""
    code = (
        "import torch; c = torch.cuda; "
        "print(torch.__version__, c.get_device_name(0) if c.is_available() else 'no GPU', torch.version.cuda)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
    return f"torch, card, CUDA: {found}; Python {platform.python_version()}, {os.cpu_count()} cores"


def summary(args: argparse.Namespace, ended: dict[str, str]) -> None:
    """Write RESULTS/summary.md: machine, how each part ended, the tables so far."""
    lines = ["# Results on a GPU", "", machine(), ""]
    for part, how in ended.items():
        lines += [f"## {part}", "", how, ""]
        for table in TABLES.get(part, ()):
            path = args.results / f"{table}.md"
            lines += [f"{table}:", "", path.read_text()] if path.exists() else [f"{table}: nothing", ""]
    (args.results / "summary.md").write_text("\n".join(lines))


def main() -> None:
    """Run the parts, and exit with 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--data", type=Path, default=Path("data/covtype/tensors"), help="CovType's tensors")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="all by default")
    parser.add_argument("--seconds", type=float, default=500, help="of all parts together")
    parser.add_argument("--tiny", action="store_true", help="sizes that show whether it runs")
    args = parser.parse_args()
    args.results.mkdir(parents=True, exist_ok=True)
    end, ended = time.monotonic() + args.seconds, {}
    for number, part in enumerate(args.parts, 1):
        left = end - time.monotonic()
        seconds = left if number == len(args.parts) else min(left, args.seconds * SHARES.get(part, 1))
        ended[part] = run(part, args, max(1.0, seconds))
        print(f"{part}: {ended[part]}", flush=True)
        summary(args, ended)
    sys.exit(any(not how.startswith("exit code 0") for how in ended.values()))


if __name__ == "__main__":
    main()
