"""What `imix run` costs besides the stages: seconds and memory of stages that do nothing, against `dvc repro`.

    python -m benchmarks.scheduler [STAGES ...] [--serial STAGES ...] [--lock STAGES ...]

Each count is a repository of its own with so many cells: half the stages depend on the other half, all on a first one.
--serial also runs `dvc repro` there; --lock only times DVC's writing of a dvc.lock with so many stages.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from dvc.repo import Repo

SAMPLE_SECONDS = 0.2
PIPELINE = """
vars:
- params.yaml
stages:
  settings:
    cmd: echo 1 > settings.txt
    outs: [settings.txt]
  train:
    matrix: {cell: "${cells}"}
    cmd: echo ${item.cell} > ${item.cell}.encoder
    deps: [settings.txt]
    outs: ["${item.cell}.encoder"]
  evaluate:
    matrix: {cell: "${cells}"}
    cmd: echo ${item.cell} > ${item.cell}.metrics
    deps: ["${item.cell}.encoder"]
    outs: ["${item.cell}.metrics"]
"""
ENVIRONMENT = os.environ | {"DVC_NO_ANALYTICS": "1", "SHELL": "/bin/sh", "IMIX_DEVICE": "cpu"}


def repository(folder: Path, stages: int) -> None:
    """Make a repository with so many stages."""
    (folder / "params.yaml").write_text("cells:\n" + "".join(f"- c{number}\n" for number in range(stages // 2)))
    (folder / "dvc.yaml").write_text(PIPELINE)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=folder, check=True, env=ENVIRONMENT)


def measured(folder: Path, *command: str) -> tuple[float, dict[str, float]]:
    """Run a module; return its seconds and the most memory, MB, of its process and of each kind of its children."""
    began, peak = time.monotonic(), {}
    with (folder / "log.txt").open("a") as log:
        call = [sys.executable, "-m", *command]
        process = subprocess.Popen(call, cwd=folder, env=ENVIRONMENT, stdout=log, stderr=log)
        while process.poll() is None:
            for name, size in memory(process.pid).items():
                peak[name] = max(peak.get(name, 0.0), size)
            time.sleep(SAMPLE_SECONDS)
    if process.returncode:
        sys.exit((folder / "log.txt").read_text()[-2000:])
    return time.monotonic() - began, peak


def memory(client: int) -> dict[str, float]:
    """Return the resident MB of a process, of the largest runner below it and of the largest Dask worker."""
    found = {}
    try:
        parent = psutil.Process(client)
        for process in (parent, *parent.children(recursive=True)):
            words = " ".join(process.cmdline())
            name = "client" if process == parent else "runner" if "cluster.runner" in words else "worker"
            if name != "worker" or "spawn_main" in words:
                found[name] = max(found.get(name, 0.0), process.memory_info().rss / 1e6)
    except psutil.Error:  # one has ended
        pass
    return found


def run(counts: Sequence[int], serial: Sequence[int]) -> None:
    """Print a line per number of stages and way to run them."""
    for stages in counts:
        ways = {"imix run": ("imix", "run", "--workers", "2")}
        ways |= {"dvc repro": ("dvc", "repro", "-q")} if stages in serial else {}
        for way, command in ways.items():
            with tempfile.TemporaryDirectory() as name:
                repository(Path(name), stages)
                first, peak = measured(Path(name), *command)
                again, _ = measured(Path(name), *command)
            sizes = ", ".join(f"{kind} {size:.0f} MB" for kind, size in peak.items())
            print(f"{stages:>7} stages, {way}: {first:.1f} s, again {again:.1f} s; {sizes}", flush=True)


def lock(stages: int) -> None:
    """Print how long DVC takes to load the graph and to write dvc.lock, once for all stages."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        repository(folder, stages)
        entries = "".join(
            f"  {kind}@c{number}:\n    cmd: echo c{number} > c{number}.{out}\n    deps:\n    - path: settings.txt\n"
            f"      hash: md5\n      md5: b026324c6904b2a9cb4b88d6d61c81d1\n      size: 2\n    outs:\n"
            f"    - path: c{number}.{out}\n      hash: md5\n      md5: a{number:031x}\n      size: 6\n"
            for number in range(stages // 2)
            for kind, out in (("train", "encoder"), ("evaluate", "metrics"))
        )
        (folder / "dvc.lock").write_text(f"schema: '2.0'\nstages:\n{entries}")
        began = time.monotonic()
        found = Repo(str(folder)).index.stages
        loaded = time.monotonic()
        chosen = [stage for stage in found if stage.name != "settings"]
        with Repo(str(folder)).lock:
            chosen[0].dvcfile.dump_stages(chosen, update_pipeline=False)
        written = time.monotonic()
    rss = psutil.Process().memory_info().rss / 1e6
    seconds = f"loaded in {loaded - began:.1f} s, dvc.lock written in {written - loaded:.1f} s"
    print(f"{stages:>7} stages: {seconds}; {rss:.0f} MB", flush=True)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", type=int, default=[100, 1000])
    parser.add_argument("--serial", nargs="*", type=int, default=[100])
    parser.add_argument("--lock", nargs="*", type=int, default=[100, 1000, 10_000])
    args = parser.parse_args()
    print(f"{psutil.cpu_count()} cores", flush=True)
    run(args.stages, args.serial)
    for stages in args.lock:
        lock(stages)


if __name__ == "__main__":
    main()
