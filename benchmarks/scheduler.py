"""What `imix run` costs besides the stages: seconds and memory of stages that do nothing, against `dvc repro`.

    python -m benchmarks.scheduler [--run STAGES ...] [--serial STAGES ...] [--client STAGES ...]

Without options all three are measured. Each count is a repository of its own with so many cells: half the stages depend
on the other half, those on a first one. --serial runs `dvc repro` there. --client measures the processor's time of the
client's own work.
"""

import argparse
import hashlib
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from imix.cluster import graph as graph_module
from imix.cluster.graph import Graph

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


def run(stages: int, way: str, command: Sequence[str]) -> None:
    """Print how long a command takes with so many stages, and with nothing left to do."""
    with tempfile.TemporaryDirectory() as name:
        repository(Path(name), stages)
        first, peak = measured(Path(name), *command)
        again, _ = measured(Path(name), *command)
    sizes = ", ".join(f"{kind} {size:.0f} MB" for kind, size in peak.items())
    print(f"{stages:>7} stages, {way}: {first:.1f} s, again {again:.1f} s; {sizes}", flush=True)


def done(folder: Path, stages: int) -> None:
    """Write what a repository of so many stages has when all are done: files, cache and dvc.lock."""
    lines, files = ["schema: '2.0'\nstages:\n"], {"settings.txt": "1"}
    for number in range(stages // 2):
        for stage, dep, out in (("train", None, "encoder"), ("evaluate", "encoder", "metrics")):
            path = f"c{number}.{out}"
            lines.append(f"  {stage}@c{number}:\n    cmd: echo c{number} > {path}\n    deps:\n")
            lines.append(_entry(f"c{number}.{dep}" if dep else "settings.txt", f"c{number}" if dep else "1"))
            lines.append("    outs:\n" + _entry(path, f"c{number}"))
            files[path] = f"c{number}"
    settings = "  settings:\n    cmd: echo 1 > settings.txt\n    outs:\n" + _entry("settings.txt", "1")
    (folder / "dvc.lock").write_text("".join([lines[0], settings, *lines[1:]]))
    for path, text in files.items():
        cached = folder / ".dvc/cache/files/md5" / _md5(text)[:2] / _md5(text)[2:]
        cached.parent.mkdir(parents=True, exist_ok=True)
        for each in (cached, folder / path):
            each.write_text(f"{text}\n")
        cached.chmod(0o444)


def _md5(text: str) -> str:
    return hashlib.md5(f"{text}\n".encode(), usedforsecurity=False).hexdigest()


def _entry(path: str, text: str) -> str:
    return f"    - path: {path}\n      hash: md5\n      md5: '{_md5(text)}'\n      size: {len(text) + 1}\n"


def client(stages: int) -> None:
    """Print the processor's time that the client needs for so many stages."""
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        repository(Path(name), stages)
        done(Path(name), stages)
        graph_module.FLUSH_SECONDS = float("inf")
        before, times = psutil.Process().memory_info().rss, [time.process_time()]
        graph = Graph()
        times.append(time.process_time())
        stale = graph.stale(list(graph.stages))
        times.append(time.process_time())
        for each in graph.stages:
            graph.record(each, graph.entry(each), elsewhere=True)
        times.append(time.process_time())
        graph.flush()
        times.append(time.process_time())
    load, look, record, write = (b - a for a, b in itertools.pairwise(times))
    each = f"a stage {1000 * look / stages:.1f} ms to see whether it is stale, {1000 * record / stages:.1f} to record"
    memory = (psutil.Process().memory_info().rss - before) / 1e6
    print(f"{stages:>7} stages: loaded in {load:.1f} s; {each}; dvc.lock written in {write:.1f} s; {memory:.0f} MB")
    assert not stale


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = {"run": [100, 1000], "serial": [100], "client": [100, 1000, 10_000]}
    for name in defaults:
        parser.add_argument(f"--{name}", nargs="+", type=int, default=[], metavar="STAGES")
    chosen = vars(parser.parse_args())
    chosen = chosen if any(chosen.values()) else defaults
    print(f"{psutil.cpu_count()} cores", flush=True)
    for stages in sorted({*chosen["run"], *chosen["serial"]}):
        if stages in chosen["run"]:
            run(stages, "imix run", ("imix", "run", "--workers", "2"))
        if stages in chosen["serial"]:
            run(stages, "dvc repro", ("dvc", "repro", "-q"))
    for stages in chosen["client"]:
        client(stages)


if __name__ == "__main__":
    main()
