"""Run stale stages side by side, on this machine or on a Dask cluster; DVC stays the memory.

Stages run as `dvc repro` runs them, so that a plain `dvc repro` afterwards runs nothing.
"""

import argparse

from imix.errors import Once, UserError


def options(parser: argparse.ArgumentParser) -> None:
    """Add the targets, and where they run."""
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="stages, as of `dvc repro`; default: all")
    parser.add_argument(
        "--workers", type=_count, action=Once, metavar="N", help="stages side by side; default: one per GPU or core"
    )
    parser.add_argument("--scheduler", action=Once, metavar="ADDRESS", help="of a Dask cluster that runs already")
    parser.add_argument(
        "--cluster", action=Once, metavar="CLASS", help="start this Dask cluster, e.g. dask_jobqueue.SLURMCluster"
    )
    parser.add_argument("--keep-going", action="store_true", help="run what does not depend on a stage that failed")


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text} must be a whole number from 1 to 10000")
    return int(text)


def run(args: argparse.Namespace) -> None:
    """Run stages of DVC's graph on a Dask cluster.

    Raises:
        UserError: Dask is not installed, and those of `imix.cluster.start.run`.
    """
    try:
        from imix.cluster import start
    except ModuleNotFoundError as error:
        raise UserError(f"run: {error.name} is not installed; pip install 'imix[cluster]'") from None
    start.run(args.targets, args.workers, args.scheduler, args.cluster, args.keep_going)
