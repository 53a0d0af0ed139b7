"""What limits a grid on many GPUs: a model from the plan, and from what `benchmarks.scheduler` measured.

    python -m benchmarks.scaling [--rate 2e13] [--record 0.01] [--start 5]

The paper's grid, five seeds a cell, is put on 8 to 512 GPUs as `imix run` does it, the longest stage first, with one
GPU a worker or five: then a worker trains all seeds of a cell at once. --record is the client's time per stage, one
after the other; --start what a stage needs on its worker besides its work.
"""

import argparse
import heapq
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import yaml

from imix.planning import study
from imix.settings import loading, resolved

GRID = {"datasets": ["cifar10", "cifar100", "speech_commands", "covtype"], "seeds": [0, 1, 2, 3, 4]}
GPUS = (8, 64, 512)
SEEDS = 5


class Stage(NamedTuple):
    """The seconds of a stage's jobs, and the stages that it waits for."""

    jobs: list[float]
    after: list[str]


def paper(rate: float) -> tuple[dict[str, Stage], float]:
    """Return the stages of the paper's grid that train or evaluate, and the GB of the largest process."""
    with tempfile.TemporaryDirectory() as folder:
        params = yaml.safe_load(Path("params.yaml").read_text())
        params["grid"] |= GRID
        params |= {"ablations": params["ablations"] | {"run": []}, "transfer": {"pairs": []}}
        (path := Path(folder, "params.yaml")).write_text(yaml.safe_dump(params))
        loaded = loading.load(path)
    jobs = study.priced(loaded, resolved.resolved(loaded), torch.device("cpu"), rate, None)
    seconds, after = defaultdict(list), defaultdict(list)
    for job in jobs:
        name = f"{job.group} {job.output}"
        seconds[name].append(job.seconds)
        if job.group in ("evaluate", "transfer"):
            after[name] = [f"pretrain {Path('data/encoders', job.cell.path)}"]
    stages = {name: Stage(each, [one for one in after[name] if one in seconds]) for name, each in seconds.items()}
    return stages, max(job.memory for job in jobs) / 1e9


def length(jobs: Sequence[float], gpus: int) -> float:
    """Return the seconds of a stage on a worker with so many GPUs."""
    free = [0.0] * gpus
    for job in jobs:
        heapq.heapreplace(free, free[0] + job)
    return max(free)


def finished(stages: dict[str, Stage], workers: int, gpus: int, record: float, start: float) -> float:
    """Return the seconds until all stages are done."""
    seconds = {name: start + length(stage.jobs, gpus) for name, stage in stages.items()}
    children = defaultdict(list)
    for name, stage in stages.items():
        for parent in stage.after:
            children[parent].append(name)
    ready = [(-seconds[name], name) for name, stage in stages.items() if not stage.after]
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []
    now = client = 0.0
    while ready or running:
        while ready and len(running) < workers:
            _, name = heapq.heappop(ready)
            heapq.heappush(running, (max(now, client) + seconds[name], name))
        now, name = heapq.heappop(running)
        client = max(client, now) + record  # the client records one stage after the other
        for child in children[name]:
            heapq.heappush(ready, (-seconds[child], child))
    return client


def shown(seconds: float, ideal: float) -> str:
    """Return hours, and how much of the GPUs' time is used."""
    return f"{seconds / 3600:,.1f} h, {100 * ideal / seconds:.0f} %"


def main() -> None:
    """Print the model's tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=2e13, help="operations a second of a GPU")
    parser.add_argument("--record", type=float, default=0.01, help="seconds of the client per stage")
    parser.add_argument("--start", type=float, default=5.0, help="seconds that a stage needs besides its work")
    args = parser.parse_args()
    stages, gigabytes = paper(args.rate)
    whole = sum(sum(stage.jobs) for stage in stages.values())
    longest = max(max(stage.jobs) for stage in stages.values())
    print(f"{len(stages)} stages, {whole / 3600:,.0f} GPU-hours; the longest job takes {longest / 3600:.1f} h")
    print(f"the largest process needs {gigabytes:.1f} GB besides the libraries")
    print("| GPUs | one GPU a worker | five GPUs a worker |\n|---:|---:|---:|")
    for gpus in GPUS:
        spent = [finished(stages, gpus // each, each, args.record, args.start) for each in (1, SEEDS)]
        print(f"| {gpus} | {' | '.join(shown(each, whole / gpus) for each in spent)} |")
    print("\n10,000 cells, each a stage of\n| GPUs | 1 min | 10 min | 1 h |\n|---:|---:|---:|---:|")
    for gpus in GPUS:
        cells = []
        for minutes in (1, 10, 60):
            many = {str(number): Stage([60.0 * minutes], []) for number in range(10_000)}
            cells.append(shown(finished(many, gpus, 1, args.record, args.start), 600_000 * minutes / gpus))
        print(f"| {gpus} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
