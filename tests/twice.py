"""Run the study twice, in two clean clones, and compare every out that dvc.lock names.

    python -m tests.twice                                                    # the study of params.yaml, with its ablations
    python -m tests.twice --datasets segment --methods moco --mixes imix --seeds 0 --epochs 2 --no-ablations

An out's hash must be the same in both. Where it is not, its files are compared without the seconds that trainings took (and
git's commit): they alone may differ. Exits with 1 if anything else does.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import yaml

from tests import clones


def main() -> None:
    """Run twice and compare."""
    params = yaml.safe_load((clones.ROOT / "params.yaml").read_text())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for key, kind in (("datasets", str), ("methods", str), ("mixes", str), ("seeds", int)):
        parser.add_argument(f"--{key}", nargs="+", type=kind, default=params["grid"][key])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--no-ablations", action="store_true")
    args = parser.parse_args()
    grid = {key: getattr(args, key) for key in ("datasets", "methods", "mixes", "seeds")}
    ablations = {} if args.no_ablations else params["ablations"]
    with tempfile.TemporaryDirectory() as temporary:
        folders = [clones.clone(Path(temporary, name), grid, args.epochs, ablations) for name in ("one", "two")]
        for folder in folders:
            clones.run(folder, "dvc", "repro")
        one, two = map(clones.outs, folders)
        unequal = sorted(path for path in one.keys() | two.keys() if one.get(path) != two.get(path))
        left, right = (clones.contents(folder, unequal) for folder in folders)
        wrong = sorted(path for path in left.keys() | right.keys() if left.get(path) != right.get(path))
    print(f"{len(one)} outs, {len(one) - len(unequal)} with the same hash, {len(unequal)} that name seconds, {len(wrong)} files differ")
    for path in wrong:
        print(f"    {path}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
