"""Kill stages at random moments, again and again, and hold what they give in the end against runs that nobody killed.

    python -m tests.kill [--kills 25] [--dvc 3] [--seed 0] [--only moco ablate ...]

SIGKILL falls at any time, when a save has begun, or when the first of the outs is there; states are saved after every step.
As DVC does, the outs are removed before a stage starts again. Exits with 1 if a single byte differs from the uninterrupted
run's, or a state that was saved is gone. Seconds and commits aside (tests/clones.py).
"""

import argparse
import functools
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from imix import resuming
from tests import clones

METHODS = ("npair", "moco", "byol", "supervised")
HOW = ("any", "save", "save", "outs")  # what the moment of a kill is chosen by
SAVING = {"IMIX_SAVE_SECONDS": "0"}


def start(folder: Path, command: list[str], log: Path) -> int:
    """Start a stage as a process of its own; returns its number.

    One in five is ``python -m stages...``. The others are forks of this process, which has loaded torch already and runs the
    same module in them: they spend their time on what is to be killed.
    """
    with log.open("w") as file:
        if random.random() < 0.2:
            return subprocess.Popen(command, cwd=folder, env=clones.ENVIRONMENT | SAVING, stdout=file, stderr=file).pid
        if pid := os.fork():
            return pid
        try:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            os.chdir(folder)
            os.environ.update(clones.ENVIRONMENT | SAVING)
            sys.argv = command[2:]
            runpy.run_module(command[2], run_name="__main__")
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)


def moments(folder: Path, outs: list[Path], pid: int) -> dict[str, Callable[[], bool]]:
    """Ways to choose the moment: each says when it has come."""
    pause, end, began = random.uniform(0, 0.02), time.monotonic() + random.uniform(0, 3), []

    def saving() -> bool:
        """At the beginning of any save of the first seconds of them."""
        there = any((folder / ".resume").glob(f".*.{pid}.tmp"))
        if there and not began:
            began.append(time.monotonic() + random.uniform(0, 2))
        return there and time.monotonic() > began[0]

    def first_out() -> bool:
        return bool(outs[0].is_file() and not time.sleep(pause))

    return {"any": lambda: time.monotonic() > end, "save": saving, "outs": first_out, "never": lambda: bool(time.sleep(0.01))}


def kill_once(folder: Path, command: list[str], outs: list[Path], how: str) -> str | None:
    """Start a stage, kill it, and say what it was doing; None if it was done first."""
    log = folder / ".log.tmp"
    pid, status = start(folder, command, log), (0, 0)
    come = moments(folder, outs, pid)[how]
    while status[0] == 0 and not come():
        status = os.waitpid(pid, os.WNOHANG)
    if status[0] == 0:
        os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)
    said, code = log.read_text(), os.waitstatus_to_exitcode(status[1])
    if code == 0:
        return None
    assert code == -signal.SIGKILL, said
    if any((folder / ".resume").glob(f".*.{pid}.tmp")):
        return "in the writing of a state"
    if any(path for out in outs for path in out.parent.rglob(f".*.{pid}.tmp")):
        return "in the writing of an out"
    there = sum(path.is_file() for out in outs for path in (out, out / "history.csv", out / "provenance.json"))
    if there:
        return "between outs" if there < 3 else "after the last out"
    return "starting" if "->" not in said else "loading, in a step, or evaluating"


def remove(outs: list[Path]) -> None:
    """Remove what is there of outs."""
    for out in outs:
        shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)


def progress(folder: Path, outs: list[Path], keep: bool) -> tuple[int, list[tuple[int, int]]]:
    """Results that stay, and epoch and step of every saved state; a damaged one raises."""
    paths = [path for kind in ("state", "done") for path in (folder / ".resume").glob(f"*.{kind}")]
    saved = [facts for path in paths for _, facts in [resuming.load(path)]]
    return len(list(outs[0].glob("*.json"))) if keep else 0, sorted((facts["epoch"], facts["step"]) for facts in saved)


def kill_until(
    folder: Path, label: str, command: list[str], finish: Callable[[], dict[str, str]], outs: list[Path], kills: int, keep: bool
) -> int:
    """Kill a stage so many times and more, until it is done; return how many results differ."""
    clones.run(folder, *command)
    expected = finish()
    fell, finished, wrong, lost = Counter(), 0, 0, 0
    remove(outs)
    before, where = progress(folder, outs, keep), ""
    while fell.total() < kills or where is not None:
        if not keep:
            remove(outs)
        where = kill_once(folder, command, outs, random.choice(HOW) if fell.total() < kills else "never")
        now = progress(folder, outs, keep)
        if where is None:
            finished, wrong = finished + 1, wrong + (finish() != expected)
            remove(outs)
            now = (0, [])
        else:
            fell[where] += 1
            lost += now < before
        before = now
    remove(outs)
    print(f"{label}: {fell.total()} kills, {finished} results, {wrong} of them wrong, {lost} states lost")
    for where, count in fell.most_common():
        print(f"    {count:3d} {where}", flush=True)
    return wrong + lost


def judged(folder: Path, cell: dict[str, str], paths: list[str]) -> dict[str, str]:
    """What is in these paths when the cell's encoder has been judged."""
    clones.run(folder, *clones.stage(folder, "evaluate", **cell))
    return clones.contents(folder, paths)


def stages(folder: Path, kills: int, only: list[str]) -> int:
    """Kill trainings of every method, and an ablation."""
    wrong = 0
    for name in ("settings", "fetch", "preprocess"):
        clones.run(folder, *clones.stage(folder, name, **{} if name == "settings" else {"dataset": "segment"}))
    for method in sorted({*METHODS} & {*only}):
        cell = {"dataset": "segment", "method": method, "mix": "none" if method == "supervised" else "imix"}
        encoder, training, metrics = (Path("data", kind, *cell.values()) for kind in ("encoders", "trainings", "metrics"))
        outs = [encoder / "0.safetensors", training / "0"]
        finish = functools.partial(judged, folder, cell, [*map(str, outs), str(metrics)])
        command = clones.stage(folder, "pretrain", **cell, seed=0)
        wrong += kill_until(folder, f"pretrain {method}", command, finish, [folder / out for out in outs], kills, keep=False)
    if "ablate" not in only:
        return wrong
    out = Path("data/ablations/controls/segment/0")
    command = clones.stage(folder, "ablate", ablation="controls", dataset="segment", seed=0)
    return wrong + kill_until(folder, "ablate", command, lambda: clones.contents(folder, [str(out)]), [folder / out], kills, keep=True)


def repro(folder: Path, until: str, how: str) -> str:
    """Start `dvc repro` as from a terminal and end it when it is at a stage ``until``, if that is one; what was said.

    ``group``: all of its processes are killed, as when power fails. ``dvc``: only DVC is; its stage goes on.
    ``ctrl-c``: SIGINT to all of them, as a terminal does.
    """
    log, command = folder / ".log.tmp", [sys.executable, "-m", "dvc", "repro"]
    with log.open("w") as file:  # not a pipe: a stage that goes on would keep it open
        process = subprocess.Popen(
            command, cwd=folder, env=clones.ENVIRONMENT | SAVING, start_new_session=True, stdout=file, stderr=subprocess.STDOUT
        )
        while process.poll() is None and f"stages.{until}" not in log.read_text():
            time.sleep(0.01)
        try:
            process.wait(random.uniform(0, 6) if until else None)
        except subprocess.TimeoutExpired:
            if how == "dvc":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGINT if how == "ctrl-c" else signal.SIGKILL)
        return f"[{process.wait()}]\n{log.read_text()}"


def pipelines(folder: Path, reference: Path, kills: int) -> int:
    """Kill `dvc repro` in every way and run it again."""
    clones.run(reference, "dvc", "repro", **SAVING)
    expected = clones.contents(reference, clones.outs(reference))
    wrong = 0
    for how in ("group", "dvc", "ctrl-c"):
        for _ in range(kills):
            for name in ("data", ".resume", "reports", ".dvc/cache", "dvc.lock"):
                shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink(missing_ok=True)
            said, runs = "", 0
            while not said.startswith("[0]"):
                until = random.choice(("preprocess", "pretrain", "pretrain", "evaluate")) if runs < 2 else ""
                said, runs = repro(folder, until, how), runs + 1
                for line in said.splitlines():
                    if line.startswith(("imix:", "ERROR", "WARNING")) or "another process" in line or ": stopped after" in line:
                        print("   ", line)
            differ = clones.contents(folder, clones.outs(folder)) != expected
            wrong += differ
            print(f"dvc repro, {how}: done in run {runs}; {'DIFFERENT' if differ else 'the same bytes'}", flush=True)
    return wrong


def main() -> None:
    """Kill stages, then pipelines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, number in (("kills", 25), ("dvc", 3), ("seed", 0), ("epochs", 8)):
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--only", nargs="*", default=[*METHODS, "ablate"])
    args, wrong = parser.parse_args(), 0
    random.seed(args.seed)
    with tempfile.TemporaryDirectory() as temporary:
        grid = {"datasets": ["segment"], "mixes": ["imix"], "seeds": [0]}
        if args.kills:
            ablations = {"run": ["controls"], "datasets": ["segment"]}
            folder = clones.clone(Path(temporary, "stages"), grid | {"methods": ["npair", "moco", "byol"]}, args.epochs, ablations)
            wrong += stages(folder, args.kills, args.only)
        if args.dvc:
            one, two = (clones.clone(Path(temporary, name), grid | {"methods": ["npair", "moco"]}, 40) for name in ("one", "two"))
            wrong += pipelines(one, two, args.dvc)
    sys.exit(f"{wrong} results differ or are lost" if wrong else 0)


if __name__ == "__main__":
    main()
