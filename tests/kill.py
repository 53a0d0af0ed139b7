"""Kill `dvc repro` at random moments, run it again, and compare what comes out with a run that nobody killed.

    python -m tests.kill [--kills 28] [--kinds evaluate ablate] [--seed 0] [--epochs 60] [--save-seconds 0.5]

A small study of a table and of images, with labels and an ablation, runs in two clones. In one, SIGKILL ends the
whole process group (as when power fails), the stage's process alone, or one worker alone, while pretrain, supervised,
evaluate or ablate is at work; then `dvc repro` starts again. A study that is done is emptied and starts anew until
there were enough kills.
Exits with 1 if a byte of an out differs, if a finished training is done again, or if a kill costs more training than
the seconds between two saves.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from tests import clones

KINDS = ("pretrain", "evaluate", "supervised", "ablate")  # in the order in which DVC runs them
HOW = ("group", "stage", "worker")
SECONDS = {"pretrain": 2, "evaluate": 0.5, "supervised": 2, "ablate": 2}  # at most, until a kill falls
GRID = {"datasets": ["diamonds", "mnist"], "methods": ["moco"], "mixes": ["imix"], "seeds": [0, 1]}
CHANGES = {
    "data": {"diamonds": {"rows": {"train": 600, "test": 300}}, "mnist": {"rows": {"train": 200, "test": 100}}},
    "recipe": {  # encoders of images keep their weights, and so SGD's velocities, channels-last
        "diamonds": {"knn_every": 1000},
        "mnist": {"knn_every": 1000, "epochs": 20, "batch_size": 50},
    },
    "ablations": {"run": ["controls"], "datasets": ["diamonds"], "seeds": [0]},
    "ablation": {"controls": {"augmentation": ["clean"], "methods": ["npair"]}},
}
SLACK = 0.5  # seconds that a step and the writing of a save may take on a busy machine


class Process(NamedTuple):
    """A process of a session, from /proc."""

    number: int
    parent: int
    command: str


def session(leader: int) -> list[Process]:
    """Return the living processes of a session."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                state, parent, _, of = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # it has ended
                continue
            if int(of) == leader and state != "Z":
                found.append(Process(int(folder.name), int(parent), command))
    return found


def workers(processes: list[Process]) -> list[Process]:
    """Return the workers: children of the server that they are forked from, which has the same command."""
    servers = {each.number for each in processes if "multiprocessing.forkserver" in each.command}
    return [each for each in processes if each.parent in servers and each.number in servers]


def stages(processes: list[Process]) -> list[Process]:
    """Return the stage's own process, without the shell that DVC starts it with."""
    found = [each for each in processes if "-m stages." in each.command]
    return [each for each in found if not any(other.parent == each.number for other in found)]


def states(folder: Path) -> dict[str, tuple[float, dict[str, Any]]]:
    """Return time and facts of every saved state in the store."""
    found = {}
    for path in (folder / ".imix/trainings").glob("*/state"):
        try:
            content, changed = path.read_bytes()[32:], path.stat().st_mtime
        except FileNotFoundError:
            continue
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        found[path.parent.name] = changed, json.loads(header["__metadata__"]["facts"])
    return found


class Kills:
    """One clone that is killed, and what is noted of it."""

    def __init__(self, folder: Path, save_seconds: float) -> None:
        self.folder, self.save_seconds = folder, save_seconds
        self.fell: Counter[str] = Counter()
        self.locks = 0  # files that DVC had left empty
        self.lost = 0.0  # most seconds of training that one kill cost
        self.wrong: list[str] = []
        self.done: dict[str, int] = {}  # when each training was finished
        self.reached: dict[str, tuple[int, int]] = {}  # epoch and step that each training had saved
        self.began = 0.0  # of the present run

    def start(self, kind: str = "") -> subprocess.Popen:
        """Start `dvc repro`, of the stages of one kind and what they need if one is named."""
        lock = self.folder / ".dvc/tmp/rwlock"
        if lock.exists() and not lock.read_text():  # DVC was killed while it wrote: docs/reliability.md
            lock.unlink()
            self.locks += 1
        self.log, self.began = self.folder / ".log.tmp", time.time()
        variables = {"IMIX_SAVE_SECONDS": str(self.save_seconds), "IMIX_WORKERS": "2"}
        with self.log.open("w") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "dvc", "repro", *([kind] if kind else [])],
                cwd=self.folder,
                env=clones.environment(self.folder) | variables,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, kind: str = "", how: str = "") -> bool:
        """Run until the end, or until a kill from the time on when a stage of this kind has workers.

        Return whether it ended well.
        """
        process, deadline = self.start(kind), 0.0
        trains = kind != "evaluate" and random.random() < 0.8  # one in five may fall while workers start
        while process.poll() is None:
            time.sleep(0.02)
            if not deadline and kind and kind == self.current() and self.ready(trains, process.pid):
                deadline = time.monotonic() + random.uniform(0, SECONDS[kind])
            if deadline and time.monotonic() > deadline:
                if self.current() == kind and self.kill(process.pid, session(process.pid), how):
                    break
                deadline = 0.0  # that stage has ended: the next one
        process.wait()
        while session(process.pid):  # workers whose stage was killed save and end
            time.sleep(0.01)
        self.check()
        return process.returncode == 0

    def ready(self, trains: bool, leader: int) -> bool:
        """Return whether workers are there and, to ``trains``, this run has saved a state."""
        if not trains:
            return bool(workers(session(leader)))
        return any(changed > self.began for changed, _ in states(self.folder).values())

    def current(self) -> str:
        """Return the kind of the stage that DVC started last."""
        return self.log.read_text().rpartition("Running stage '")[2].partition("@")[0]

    def kill(self, leader: int, found: list[Process], how: str) -> bool:
        """Kill; return False if what is to be killed is not there."""
        targets = {"group": found, "stage": stages(found), "worker": workers(found)}[how]
        if not targets:
            return False
        now, before = time.time(), states(self.folder)
        if how == "group":
            os.killpg(leader, signal.SIGKILL)
            # what trainings at work did since their last save of this run
            self.lost = max([self.lost, *(now - saved for saved, _ in before.values() if saved > self.began)])
        else:
            os.kill(targets[0].number, signal.SIGKILL)
        self.fell[f"{how} in {self.current()}"] += 1
        print(f"    kill {self.fell.total()}: {how} in {self.current()}, {len(before)} states", flush=True)
        return True

    def check(self) -> None:
        """Note trainings that were finished and are done again, and those that have less than was saved."""
        finished = {path.parent: path for path in (self.folder / ".imix/trainings").glob("*/result.json")}
        for folder in finished:
            when = (folder / "encoder.safetensors").stat().st_mtime_ns
            if self.done.setdefault(folder.name, when) != when:
                self.wrong.append(f"{folder.name} was trained again")
        found = {key: (facts["epoch"], facts["step"]) for key, (_, facts) in states(self.folder).items()}
        for key, reached in self.reached.items():
            if key not in self.done and found.get(key, (0, 0)) < reached:
                self.wrong.append(f"{key} had reached {reached} and has {found.get(key)}")
        self.reached |= found

    def empty(self) -> None:
        """Remove all that the study has made."""
        for name in ("data", ".imix", "reports", ".dvc/cache", ".dvc/tmp", "dvc.lock"):
            path = self.folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        self.done, self.reached = {}, {}


def trained_seconds(folder: Path) -> dict[str, float]:
    """Return the seconds that each training's record counts, those before kills included, by its label."""
    records = [json.loads(path.read_text()) for path in (folder / ".imix/records").glob("*.json")]
    return {record["label"]: record["seconds"] for record in records}


def main() -> None:
    """Kill until there were enough kills, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("kills", 28), ("seed", 0), ("epochs", 60), ("save-seconds", 0.5)):
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    args = parser.parse_args()
    random.seed(args.seed)
    with tempfile.TemporaryDirectory() as temporary:
        one, two = (clones.clone(Path(temporary, name), args.epochs, GRID, CHANGES) for name in ("one", "two"))
        undisturbed = Kills(one, args.save_seconds).start()
        kills, studies = Kills(two, args.save_seconds), 0
        while kills.fell.total() < args.kills:
            kills.empty()
            for kind in [kind for kind in KINDS if kind in args.kinds]:
                for number in range(-(-args.kills // len(args.kinds))):
                    kills.run(kind, HOW[number % len(HOW)])
            ended = kills.run() or kills.run()
            studies += 1
            if undisturbed.wait():
                sys.exit("the undisturbed run failed")
            paths = clones.outs(one)
            expected = clones.contents(one, paths)
            same = ended and clones.contents(two, clones.outs(two)) == expected and clones.outs(two) == paths
            kills.wrong += [] if same else ["other bytes than the undisturbed run's"]
            print(f"after {kills.fell.total()} kills: {'the same bytes' if same else 'DIFFERENT'}", flush=True)
        alone, killed = trained_seconds(one), trained_seconds(two)
    for what, count in sorted(kills.fell.items()):
        print(f"    {count:3d} {what}")
    print(f"{kills.fell.total()} kills, {studies} studies, {len(expected)} files of {len(paths)} outs each")
    print(f"empty files .dvc/tmp/rwlock removed: {kills.locks}")
    print(f"longest time since a save when all was killed: {kills.lost:.2f} s, of {args.save_seconds} s between saves")
    print(f"seconds of training on record: {sum(alone.values()):.1f} undisturbed, {sum(killed.values()):.1f} killed")
    if kills.lost > args.save_seconds + SLACK:
        kills.wrong.append(f"{kills.lost:.2f} s of training were lost")
    sys.exit("\n".join(kills.wrong) or 0)


if __name__ == "__main__":
    main()
