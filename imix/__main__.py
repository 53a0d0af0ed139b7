"""``python -m imix run | plan | store | readme | encode``.

Run a study side by side; what it will cost; what the store holds; results in README.md; features of raw data by a
trained encoder.
"""

import argparse
import heapq
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from imix import arithmetic
from imix.cluster import command
from imix.errors import Once, Options, UserError, exit_cleanly
from imix.files import write_bytes

if TYPE_CHECKING:
    import torch

    from imix.planning.done import Recorded
    from imix.planning.study import Job
    from imix.settings.merging import Block
    from imix.settings.study import Params

README = Path("README.md")
HEAD = f"{'':48}{'stages':>11}{'trainings':>12}{'steps':>13}{'PFLOP':>11}{'GB':>8}{'time left':>12}{'time of all':>13}"
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


def main() -> None:
    """Run one of the commands."""
    arithmetic.choose()  # as stages do: `plan` times their steps
    parser = Options(prog="python -m imix", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    plan = commands.add_parser(
        "plan", help="print trainings, operations, memory and time of the study, without what is done"
    )
    plan.add_argument(
        "--rate", type=_positive, action=Once, metavar="OPERATIONS_PER_SECOND", help="time nothing: of another device"
    )
    plan.add_argument(
        "--memory", type=_positive, action=Once, metavar="GB", help="of the device: say what does not fit"
    )
    plan.add_argument("--cells", action="store_true", help="print a line for every stage, too")
    plan.add_argument(
        "-S", metavar="KEY=VALUE", action="append", default=[], help="change a parameter, as `dvc exp run -S` does"
    )
    kept = commands.add_parser("store", help="list what the store holds")
    kept.add_argument(
        "--prune", type=_positive, action=Once, metavar="GB", help="remove what was used longest ago, down to GB"
    )
    commands.add_parser("readme", help="write the results of reports/ into README.md")
    features = commands.add_parser("encode", help="write the features of raw data by a trained encoder")
    features.add_argument("encoder", type=Path, help="data/encoders/<cell>/<seed>.safetensors, or a copy of it")
    features.add_argument("source", type=Path, help="a table, a picture, a recording, or a folder of them")
    features.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".parquet, .csv or .npy")
    features.add_argument("--id", metavar="COLUMN", action=Once, help="a table's column of ids; default: row numbers")
    run = commands.add_parser("run", help="run stale stages side by side, on this machine or on a Dask cluster")
    command.add_options(run)
    args = parser.parse_args()
    {"run": command.run, "plan": _plan, "store": _store, "readme": _readme, "encode": _encode}[args.command](args)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} must be a positive number")
    return value


def _plan(args: argparse.Namespace) -> None:
    from imix import runtime
    from imix.planning import study
    from imix.settings import resolved

    start, device = 0.0 if args.rate else time.process_time(), runtime.configure()  # a stage imports about the same
    with tempfile.TemporaryDirectory() as folder:
        params = changed(Path(folder), args.S)
        files = resolved.resolved(params)
        record = _recorded(Path(folder), files)
        jobs = study.Prices(params, files, device, args.rate, record).jobs()
    workers = 1 if args.rate else runtime.workers()
    print(table(jobs, workers, start, args.cells))
    if args.memory:
        print(fits(jobs, args.memory * 1e9))
    print(_note(args.rate, device, workers, record))


def changed(folder: Path, changes: list[str]) -> "Params":
    """Copy params.yaml into ``folder`` and load it, with changes made by DVC's own code for `dvc exp run -S`.

    Raises:
        UserError: a change that DVC or the settings refuse.
    """
    from imix.settings import loading, text
    from imix.settings.merging import PARAMS

    path = folder / PARAMS
    if changes or not PARAMS.is_file():
        text.read(PARAMS)  # says what is wrong with it
    shutil.copy(PARAMS, path)
    if changes:
        _override(path, changes, PARAMS.name)
    try:
        return loading.load(path)
    except UserError as error:
        raise UserError(str(error).replace(str(path), PARAMS.name)) from None


def _override(path: Path, changes: list[str], name: str) -> None:
    from dvc.exceptions import DvcException
    from dvc.utils.cli_parse import to_path_overrides
    from dvc.utils.hydra import apply_overrides, to_hydra_overrides
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    grouped = to_path_overrides(changes)
    own = grouped.pop(name, [])
    if grouped:
        raise UserError(f"-S {next(iter(grouped))}:...: another file; must be a key of {name}")
    try:
        if sweeps := [each.input_line for each in to_hydra_overrides(own) if each.is_sweep_override()]:
            raise UserError(f"-S {sweeps[0]}: several values; must be one, and a list is written as [a,b]")
        apply_overrides(path, own)
    except (DvcException, HydraException, OmegaConfBaseException, LookupError, TypeError, ValueError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise UserError(f"-S {' '.join(own)}: {reason}; must be key=value, as in grid.seeds=[0]") from None


def _recorded(folder: Path, files: dict[Path, "Block"]) -> "Recorded | None":
    """Return DVC's record of this project; None outside of DVC's repositories."""
    from dvc.exceptions import DvcException, NotDvcRepoError

    from imix.planning.done import Recorded

    try:
        return Recorded(folder, files)
    except NotDvcRepoError:
        return None
    except DvcException as error:
        raise UserError("DVC: " + " ".join(str(error).replace(f"{folder}/", "").split())) from None


def wall(jobs: Sequence["Job"], workers: int, start: float) -> float:
    """Return the seconds of stages one after the other, of which each runs its jobs in order, ``workers`` at a time."""
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


def table(jobs: Sequence["Job"], workers: int, start: float, cells: bool = False) -> str:
    """Return a line per group of stages, one of the whole, and with ``cells`` one per stage."""
    lines = [HEAD]
    for group in dict.fromkeys(job.group for job in jobs):
        here = [job for job in jobs if job.group == group]
        lines.append(_line(group, here, workers, start))
        outputs = dict.fromkeys(job.output for job in here) if cells else {}
        own = {output: [job for job in here if job.output == output] for output in outputs}
        lines += [_line(f"  {output}", some, workers, start) for output, some in own.items()]
    return "\n".join([*lines, _line("total", jobs, workers, start)]) + "\n"


def _line(name: str, jobs: Sequence["Job"], workers: int, start: float) -> str:
    left = [job for job in jobs if not job.done]
    trained = [sum(job.trains for job in some) for some in (left, jobs)]
    stages = [len({job.output for job in some}) for some in (left, jobs)]
    steps, operations = sum(job.steps for job in left), sum(job.operations for job in left)
    memory = max((job.memory for job in left), default=0)
    text = f"{name:48}{f'{stages[0]:,} of {stages[1]:,}':>11}"
    text += f"{f'{trained[0]:,} of {trained[1]:,}' if trained[1] else '-':>12}"
    text += f"{steps:>13,}" if steps else f"{'-':>13}"
    text += f"{operations / 1e15:>11,.3g}{memory / 1e9:>8.2f}" if left else f"{'-':>11}{'-':>8}"
    return text + "".join(
        f"{duration(wall(some, workers, start)):>{width}}" for some, width in ((left, 12), (jobs, 13))
    )


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


def _store(args: argparse.Namespace) -> None:
    from imix import store

    if args.prune:
        print(f"{store.prune(args.prune * 1e9)} entries removed")
    entries = store.entries()
    for entry, used, size in entries:
        about = entry.folder / "about.json"
        label = json.loads(about.read_text())["label"] if about.exists() else entry.key
        state, when = "finished" if entry.finished() else "unfinished", datetime.fromtimestamp(used)
        print(f"{entry.kind:12}{state:11}{size / 1e6:>10.2f} MB  {when:%Y-%m-%d %H:%M}  {label}")
    total = sum(size for *_, size in entries)
    print(f"{store.root()}: {len(entries)} entries, {total / 1e9:.3f} GB of {store.bound() / 1e9:g} GB (IMIX_STORE_GB)")


def _readme(args: argparse.Namespace) -> None:
    from imix.reporting import readme

    try:
        old = README.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{README}: cannot be read ({error})") from None
    new = readme.render(old, Path("reports"))
    if new != old:
        write_bytes(README, new.encode())
    print(f"{README}: {'written' if new != old else 'up to date'}")


def _encode(args: argparse.Namespace) -> None:
    from imix import encoding

    rows, features = encoding.encode(args.encoder, args.source, args.output, args.id)
    print(f"{args.output}: {rows:,} rows, {features:,} features each")


if __name__ == "__main__":
    exit_cleanly(main)
