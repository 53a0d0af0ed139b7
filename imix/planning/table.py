"""The plan as text."""

from collections.abc import Sequence

from imix.planning import GROUPS, Cost, Job
from imix.planning.timing import Machine

DVC_SECONDS = 0.8  # DVC's own, a stage: 0.5 of it for rewriting a dvc.lock of 2,900 lines, on an AMD EPYC
IMPORTS_TORCH = {"pretrain", "evaluate", "ablate"}
HEAD = f"{'':48}{'stages left':>12}{'trainings left':>15}{'steps':>12}{'PFLOP':>10}{'GB':>7}{'time left':>12}{'time of all':>13}"


def duration(seconds: float) -> str:
    """Seconds as a person says them: 41 s, 12.5 min, 3.2 h, 1,234 h."""
    if seconds < 100:
        return f"{seconds:.2g} s" if 0 < seconds < 10 else f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:,.1f} h" if seconds < 100 * 3600 else f"{seconds / 3600:,.0f} h"


def _sum(jobs: Sequence[Job]) -> Cost:
    total = Cost()
    for job in jobs:
        total += job.cost
    return total


def _line(name: str, jobs: Sequence[Job], left: Cost, every: Cost) -> str:
    """One line: counts as 'left of all', costs of what is left."""
    outputs, trainings = len({job.output for job in jobs}), sum(job.trainings for job in jobs)
    stages = f"{len({job.output for job in jobs if not job.done}):,} of {outputs:,}" if outputs else "-"
    trained = f"{sum(job.trainings for job in jobs if not job.done):,} of {trainings:,}" if trainings else "-"
    costs = f"{left.steps:>12,}" if left.steps else f"{'-':>12}"
    costs += f"{left.operations / 1e15:>10,.3g}" if left.operations else f"{'-':>10}"
    costs += f"{left.memory / 1e9:>7.2f}" if left.memory else f"{'-':>7}"
    return f"{name:48}{stages:>12}{trained:>15}{costs}{duration(left.seconds):>12}{duration(every.seconds):>13}"


def starting(jobs: Sequence[Job], machine: Machine) -> Cost:
    """What starting the stages of these jobs takes: DVC for each, torch where it is needed."""
    stages, heavy = (len({job.output for job in jobs if job.group in groups}) for groups in (GROUPS, IMPORTS_TORCH))
    return Cost(seconds=stages * DVC_SECONDS + heavy * machine.start().seconds)


def table(jobs: Sequence[Job], machine: Machine, cells: bool = False) -> str:
    """A line per group, of starting the stages, and of all; with ``cells`` one per name within a group, too."""
    lines, left = [HEAD], [job for job in jobs if not job.done]
    for group, what in GROUPS.items():
        here = [job for job in jobs if job.group == group]
        if not here:
            continue
        lines.append(_line(f"{group} ({what})", here, _sum([job for job in here if not job.done]), _sum(here)))
        for name in dict.fromkeys(job.name for job in here) if cells and group in IMPORTS_TORCH else ():
            named = [job for job in here if job.name == name]
            lines.append(_line(f"  {name}", named, _sum([job for job in named if not job.done]), _sum(named)))
    starts = [starting(some, machine) for some in (left, jobs)]
    lines.append(_line("start-up", (), *starts))
    lines.append(_line("total", jobs, _sum(left) + starts[0], _sum(jobs) + starts[1]))
    return "\n".join(lines) + "\n"


def fits(jobs: Sequence[Job], memory: float) -> str:
    """Whether everything that is left fits into ``memory`` bytes, and if not, what does not."""
    large = {f"{job.group} {job.name} ({job.cost.memory / 1e9:.1f} GB)": None for job in jobs if not job.done and job.cost.memory > memory}
    if not large:
        return f"Everything that is left fits into {memory / 1e9:g} GB.\n"
    return f"Does not fit into {memory / 1e9:g} GB: {', '.join(large)}.\n"
