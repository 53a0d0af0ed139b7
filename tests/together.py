"""Run DVC commands at once in one clone, and hold the outs against a clone where they ran one by one.

    python -m tests.together

Different stages at once, the same stage twice, a stage beside `dvc exp run`. A command either does its work or is refused.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests import clones

GRID = {"datasets": ["segment"], "methods": ["npair", "moco"], "mixes": ["imix"], "seeds": [0]}
NPAIR, MOCO = (("dvc", "repro", "-s", f"pretrain@segment-{method}-imix-0") for method in GRID["methods"])
BESIDE = ("dvc", "exp", "run", "--force", "evaluate@segment-moco-imix")
TIMES = [(NPAIR, MOCO), (NPAIR, NPAIR), (NPAIR, BESIDE)]


def at_once(folder: Path, commands: tuple[tuple[str, ...], ...]) -> None:
    """Start all, wait for all, and say how each ended."""
    started = [
        subprocess.Popen(command, cwd=folder, env=clones.ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for command in commands
    ]
    for command, process in zip(commands, started, strict=True):
        said = process.communicate()[0]
        errors = [line for line in said.splitlines() if line.startswith(("ERROR", "imix: error"))]
        print(f"    {' '.join(command)}: {process.returncode} {' '.join(errors)}", flush=True)


def main() -> None:
    """Every pair, then the rest, then compare."""
    with tempfile.TemporaryDirectory() as temporary:
        one, two = (clones.clone(Path(temporary, name), GRID, 4) for name in ("one", "two"))
        clones.run(one, "dvc", "repro")
        for commands in TIMES:
            clones.run(two, "dvc", "repro", "preprocess@segment")
            print("at once:")
            at_once(two, commands)
        clones.run(two, "dvc", "repro")
        paths = clones.outs(one)
        different = clones.contents(one, paths) != clones.contents(two, clones.outs(two))
    print("afterwards: " + ("DIFFERENT" if different else f"the {len(paths)} outs of one by one"))
    sys.exit(different)


if __name__ == "__main__":
    main()
