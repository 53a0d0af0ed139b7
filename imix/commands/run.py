"""Run the stages that are not up to date side by side, on this machine or on a Dask cluster.

Does what `dvc repro` does one stage at a time, and leaves the same dvc.lock. Ctrl-C saves the
trainings that run; the same command continues them. Needs the extra `cluster`: pip install
'imix[cluster]'.
"""

import argparse

from imix.errors import Once, UserError


def options(parser: argparse.ArgumentParser) -> None:
    """Add the targets, and where they run."""
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="a stage, such as evaluate; default: all")
    parser.add_argument(
        "--workers", type=_count, action=Once, metavar="N", help="stages side by side; default: one per GPU or core"
    )
    parser.add_argument("--scheduler", action=Once, metavar="ADDRESS", help="use the Dask cluster at this address")
    parser.add_argument(
        "--cluster", action=Once, metavar="CLASS", help="start a Dask cluster, e.g. dask_jobqueue.SLURMCluster"
    )
    parser.add_argument("--keep-going", action="store_true", help="after a failure, run what does not depend on it")


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
