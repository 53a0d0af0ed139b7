"""Run DVC commands at once in one clone, and compare the outs with those of a clone where they ran one by one.

    python -m tests.together

Two `dvc repro` of different stages, two of the same stage, and one beside `dvc exp run`; each stage trains its seeds
in several workers. A command either does its work or is refused in one line.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests import clones

GRID = {"methods": ["npair", "moco"], "mixes": ["imix"], "seeds": [0, 1, 2]}
NPAIR, MOCO = (["dvc", "--wait-for-lock", "repro", "-s", f"pretrain@diamonds-clean-{m}-imix"] for m in GRID["methods"])
BESIDE = ["dvc", "--wait-for-lock", "exp", "run", "--force", "evaluate@diamonds-clean-moco-imix"]
WORKERS = {"IMIX_WORKERS": "3"}


def at_once(folder: Path, *commands: list[str]) -> None:
    """Start all, wait for all, and print how each ended."""
    started = [
        subprocess.Popen(
            command,
            cwd=folder,
            env=clones.environment(folder) | WORKERS,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for command in commands
    ]
    for command, process in zip(commands, started, strict=True):
        said = process.communicate()[0]
        notable = [line for line in said.splitlines() if line.startswith(("ERROR", "imix: error")) or "waiting" in line]
        print(f"    {' '.join(command)}: exit code {process.returncode} {' | '.join(notable)}", flush=True)


def main() -> None:
    """Run every pair at once, then the rest, then compare."""
    with tempfile.TemporaryDirectory() as temporary:
        one, two = (clones.clone(Path(temporary, name), 20, GRID) for name in ("one", "two"))
        clones.run(one, "dvc", "repro", IMIX_WORKERS="1")
        clones.run(two, "dvc", "repro", "preprocess@diamonds")
        for commands in ((NPAIR, MOCO), ([*NPAIR, "-f"], [*NPAIR, "-f"]), ([*NPAIR, "-f"], BESIDE)):
            print("at once:")
            at_once(two, *commands)
        clones.run(two, "dvc", "repro", **WORKERS)
        outs = clones.outs(one)
        different = clones.contents(one, outs) != clones.contents(two, clones.outs(two))
    print("afterwards: " + ("DIFFERENT" if different else f"the {len(outs)} outs of one by one"))
    sys.exit(different)


if __name__ == "__main__":
    main()
