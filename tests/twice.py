"""Run a study twice, in two clean clones, and compare every out byte for byte.

    python -m tests.twice                 # a small study with labels and an ablation
    python -m tests.twice --committed     # the study of params.yaml

Exits with 1 if any file differs. reports/<study>/cost.json and cost.js are no outs: they name seconds.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests import clones

GRID = {"augmentation": ["augmented"], "methods": ["moco"], "seeds": [0, 1]}
CHANGES = {"ablations": {"run": ["controls"], "datasets": ["diamonds"]}}


def main() -> None:
    """Run twice and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--committed", action="store_true", help="the study of params.yaml")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(temporary, name) for name in ("one", "two")]
        for folder in folders:
            clones.committed(folder) if args.committed else clones.clone(folder, 3, GRID, CHANGES)
            clones.run(folder, "dvc", "repro")
        one, two = (clones.contents(folder, clones.outs(folder)) for folder in folders)
        outs = len(clones.outs(folders[0]))
    wrong = sorted(path for path in one.keys() | two.keys() if one.get(path) != two.get(path))
    print(f"{outs} outs, {len(one)} files, {len(wrong)} differ")
    sys.exit("\n".join(wrong) or 0)


if __name__ == "__main__":
    main()
