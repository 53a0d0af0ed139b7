"""Print how many trainings, operations, memory and time a study takes, without the stages that are up to date.

Times come from a few training steps that run on this machine. With --rate nothing is timed: the
table is for a device that does so many operations a second, such as 2e13 for a GPU.
"""

import argparse
import heapq
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imix.commands import arguments
from imix.console import show_table
from imix.errors import UserError

if TYPE_CHECKING:
    import torch

    from imix.planning.done import Recorded
    from imix.planning.study import Job
    from imix.settings.merging import Block

HEADS = [
    "stages of", ">stages", ">trainings", ">steps", ">PFLOP", ">GB", ">time left", ">time of all",
]  # fmt: skip
NOTE = """
Stages and trainings are 'left of all'; steps, operations, memory and time left are of what is left. A multiplication
and an addition are two operations; views are not counted. GB: of the largest process besides the libraries; rows,
weights, what the backward pass keeps, features. Equal trainings and evaluations are counted once.
Time: {time}; {workers} side by side (IMIX_WORKERS), where a stage has as many.
Not in it: settings, fetch, preprocess, reports.
{done}
"""
DONE = """Left out: stages that dvc.lock has with the same command, settings, code and data, and DVC's cache with their
outputs; trainings that the store has."""


def options(parser: argparse.ArgumentParser) -> None:
    """Add what a device can do, ``--cells`` and ``-S``."""
    arguments.add_number(parser, "--rate", "OPERATIONS_PER_SECOND", "assume a device with this rate; time nothing")
    arguments.add_number(parser, "--memory", "GB", "name the stages that need more than this memory")
    parser.add_argument("--cells", action="store_true", help="also print a line for every stage")
    arguments.add_changes(parser)


def run(args: argparse.Namespace) -> None:
    """Print the plan."""
    from imix import runtime
    from imix.planning import study
    from imix.settings import resolved
    from imix.settings.overrides import changed

    start, device = 0.0 if args.rate else time.process_time(), runtime.configure()  # a stage imports about the same
    with tempfile.TemporaryDirectory() as folder:
        params = changed(Path(folder), args.S)
        files = resolved.resolved(params)
        record = recorded(Path(folder), files)
        jobs = study.priced(params, files, device, args.rate, record)
    workers = 1 if args.rate else runtime.workers()
    show_table(HEADS, lines(jobs, workers, start, args.cells), total=True)
    if args.memory:
        print(fits(jobs, args.memory * 1e9))
    print(_note(args.rate, device, workers, record))


def recorded(folder: Path, files: dict[Path, "Block"]) -> "Recorded | None":
    """Return DVC's record of this project; None outside of DVC's repositories.

    Raises:
        UserError: a file of DVC's that cannot be read.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError

    from imix.planning.done import Recorded

    try:
        return Recorded(folder, files)
    except NotDvcRepoError:
        return None
    except DvcException as error:
        raise UserError("DVC: " + " ".join(str(error).replace(f"{folder}/", "").split())) from None


def wall(jobs: Sequence["Job"], workers: int, start: float) -> float:
    """Return the seconds of all stages, run one by one.

    Each stage runs its jobs in order, ``workers`` at a time.
    """
    pools: dict[tuple[Path, bool], list[float]] = {}
    for job in jobs:  # a supervised stage trains before it evaluates
        pools.setdefault((job.output, job.trains), [0.0] * workers)
        heapq.heapreplace(pools[job.output, job.trains], pools[job.output, job.trains][0] + job.seconds)
    return sum(start + max(pool) for pool in pools.values())


def duration(seconds: float) -> str:
    """Return seconds as text: 41 s, 12.5 min, 3.2 h, 1,234 h."""
    if seconds < 100:
        return f"{seconds:.2g} s" if 0 < seconds < 10 else f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:,.1f} h" if seconds < 100 * 3600 else f"{seconds / 3600:,.0f} h"


def lines(jobs: Sequence["Job"], workers: int, start: float, cells: bool = False) -> list[list[str]]:
    """Return a row per group of stages, with ``cells`` one per stage, and one of the whole."""
    found = []
    for group in dict.fromkeys(job.group for job in jobs):
        here = [job for job in jobs if job.group == group]
        found.append(_row(group, here, workers, start))
        outputs = dict.fromkeys(job.output for job in here) if cells else {}
        own = {output: [job for job in here if job.output == output] for output in outputs}
        found += [_row(f"  {output}", some, workers, start) for output, some in own.items()]
    return [*found, _row("total", jobs, workers, start)]


def _row(name: str, jobs: Sequence["Job"], workers: int, start: float) -> list[str]:
    left = [job for job in jobs if not job.done]
    trained = [sum(job.trains for job in some) for some in (left, jobs)]
    stages = [len({job.output for job in some}) for some in (left, jobs)]
    steps, operations = sum(job.steps for job in left), sum(job.operations for job in left)
    memory = max((job.memory for job in left), default=0)
    return [
        name,
        f"{stages[0]:,} of {stages[1]:,}",
        f"{trained[0]:,} of {trained[1]:,}" if trained[1] else "-",
        f"{steps:,}" if steps else "-",
        *([f"{operations / 1e15:,.3g}", f"{memory / 1e9:.2f}"] if left else ["-", "-"]),
        *(duration(wall(some, workers, start)) for some in (left, jobs)),
    ]


def fits(jobs: Sequence["Job"], memory: float) -> str:
    """Return whether each process of what is left fits into ``memory`` bytes, and what does not."""
    large = {f"{job.output} ({job.memory / 1e9:.1f} GB)": None for job in jobs if not job.done and job.memory > memory}
    if not large:
        return f"Each process of what is left fits into {memory / 1e9:g} GB.\n"
    return f"Does not fit into {memory / 1e9:g} GB: {', '.join(large)}.\n"


def _note(rate: float | None, device: "torch.device", workers: int, record: "Recorded | None") -> str:
    time_ = (
        f"at {rate:g} operations a second, without start-up" if rate else f"from steps timed on this machine's {device}"
    )
    done = DONE if record else "No DVC repository here: only trainings that the store has are left out."
    return NOTE.format(time=time_, workers=f"{workers} job{'s' * (workers > 1)}", done=done).strip()
