"""Clones of this repository with small studies, for tests and scripts that run, kill and compare whole pipelines."""

import fcntl
import functools
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests import observe

ROOT = Path(__file__).parents[1]
FILES = (
    "params.yaml", "dvc.yaml", "README.md", ".gitignore", ".gitattributes", ".dvcignore", "data/README.md",
    "data/ablations/.gitkeep", "own/README.md",
)  # fmt: skip
OUR_OWN = {key: value for key, value in os.environ.items() if not key.startswith(("IMIX_", "DVC_"))}
ENVIRONMENT = OUR_OWN | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "OMP_NUM_THREADS": "1",
    "IMIX_DEVICE": "cpu",
    "DVC_NO_ANALYTICS": "1",
}
# one small table, and trainings of a second
PROBE = {"rates": [1, 10], "epochs": 4, "milestones": [], "neighbours": 5, "copies": 0}
SMALL = {
    "name": "clone", "datasets": ["diamonds"], "augmentation": ["clean"], "methods": ["npair", "moco"],
    "mixes": ["none", "imix"], "supervised": ["none"], "seeds": [0],
}  # fmt: skip
# every kind of stage, with two data sets of one domain
STUDY = {"datasets": ["diamonds", "other"], "methods": ["moco"]}
STUDY_CHANGES = {
    "data": {"other": {"like": "diamonds", "rows": {"train": 300, "test": 100, "seed": 1}}},
    "recipe": {
        "diamonds": {"moco": {"imix": {"temperature": 0.1}}},
        "other": {"like": "diamonds", "epochs": 1, "moco": {"imix": {"temperature": 0.1}}},
    },
    "transfer": {"pairs": [{"pretrained_on": "diamonds", "probed_on": "other"}]},
    "ablations": {"run": ["contrast"], "datasets": ["diamonds"]},
    "ablation": {"contrast": {"augmentation": ["clean"]}},
}


def merged(block: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested changes into a block, in place, and return it."""
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(block.get(key), dict):
            merged(block[key], value)
        else:
            block[key] = value
    return block


def small(params: dict[str, Any], epochs: int, grid: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Cut params.yaml's content down to a small study, in place: few epochs, a short probe, no ablations."""
    params["grid"] = SMALL | dict(grid or {})
    grid = params["grid"]
    params["ablations"] = {"run": [], "datasets": grid["datasets"], "methods": ["npair"], "seeds": grid["seeds"][:1]}
    params["transfer"], params["projection"] = {"pairs": []}, {"rows": 50, "perplexity": 5.0, "seed": 0}
    for name in params["grid"]["datasets"]:
        if "like" not in (recipe := params["recipe"].setdefault(name, {})):
            _shorten(recipe, epochs)
            recipe |= {"epochs": epochs, "warmup_epochs": 0, "knn_every": 1, "probe": PROBE}
    return params


def _shorten(block: dict[str, Any], epochs: int) -> None:
    for key, value in block.items():
        if isinstance(value, dict) and key != "probe":
            _shorten(value, epochs)
        elif key in ("epochs", "warmup_epochs"):
            block[key] = epochs if key == "epochs" else 0


def clone(
    folder: Path, epochs: int, grid: Mapping[str, Any] | None = None, changes: Mapping[str, Any] | None = None
) -> Path:
    """Make a repository of the code and a small study in it.

    Args:
        epochs: of every training. grid: what differs from `SMALL`. changes: nested, to the rest of params.yaml.
    """
    params = small(yaml.safe_load((ROOT / "params.yaml").read_text()), epochs, grid)
    return committed(folder, pruned(merged(params, changes or {})))


def pruned(params: dict[str, Any], *others: str) -> dict[str, Any]:
    """Leave the data sets of the grid and ``others``, in place: checking all would take most of the tests' time."""
    for block in ("data", "recipe"):
        kept = dict.fromkeys((*params["grid"]["datasets"], *others))
        kept |= dict.fromkeys(like for name in kept if (like := params[block][name].get("like")))
        params[block] = {name: params[block][name] for name in kept}
    for ablation in params["ablation"].values():
        ablation.pop("datasets", None)  # which may be others
    return params


def committed(folder: Path, params: dict[str, Any] | None = None) -> Path:
    """Make a repository of the code as it is here, with other parameters if there are any."""
    for name in ("imix", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    if params:
        write_params(folder, params)
    git(folder, "init", "-q")
    for key, value in (("name", "test"), ("email", "test@example.org")):
        git(folder, "config", f"user.{key}", value)
    shutil.copytree(ROOT / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache", "config.local"))
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "clone")
    return folder


@functools.cache
def studied(base: Path) -> tuple[Path, set[str]]:
    """Run `STUDY` once per test session, observed, and commit; return a copy of the clone and the stages that ran.

    Args:
        base: a folder of this test process. The first of several processes runs the study; each gets a copy
            in ``base / "study"``: the clone, and ``observed`` beside it, with the notes of `tests.observe`.
    """
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared_study"
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "ran").exists():
            (shared / "ran").write_text("\n".join(_study(shared / "study")))
    shutil.copytree(shared / "study", base / "study", symlinks=True)
    return base / "study/clone", set((shared / "ran").read_text().split())


def _study(folder: Path) -> set[str]:
    made = clone(folder / "clone", 2, STUDY, STUDY_CHANGES)
    variables = observe.install(folder / "observed")
    variables["PYTHONPATH"] = f"{made}{os.pathsep}{variables['PYTHONPATH']}"
    ran = stages_run(run(made, "dvc", "repro", **variables))
    git(made, "add", "-A")
    git(made, "commit", "-qm", "study")
    return ran


def restore(folder: Path) -> None:
    """Put a clone's files and outs back to its last commit."""
    git(folder, "checkout", "-q", ".")
    git(folder, "clean", "-fdq", "imix", "stages")
    run(folder, "dvc", "checkout", "-q", "--force")


def read_params(folder: Path) -> dict[str, Any]:
    """Return the content of a clone's params.yaml."""
    return yaml.safe_load((folder / "params.yaml").read_text())


def write_params(folder: Path, params: dict[str, Any]) -> None:
    """Write a clone's params.yaml, without YAML's aliases, which DVC's ``-S`` does not follow."""
    content = yaml.safe_dump(json.loads(json.dumps(params)), sort_keys=False)
    (folder / "params.yaml").write_text(content)


def change(folder: Path, key: str, value: Any) -> None:
    """Change one value of a clone's params.yaml, at a dotted key."""
    params = block = read_params(folder)
    *path, last = key.split(".")
    for name in path:
        block = block[name]
    assert block[last] != value
    block[last] = value
    write_params(folder, params)


def repro(folder: Path, *targets: str) -> set[str]:
    """Run `dvc repro` and return the stages that ran."""
    return stages_run(run(folder, "dvc", "repro", *targets))


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a clone's commands: its own code is imported, no other installed tree's."""
    return ENVIRONMENT | {"PYTHONPATH": str(folder)}


def git(folder: Path, *command: str) -> str:
    """Run git."""
    return run(folder, "git", *command)


def run(folder: Path, *command: str, code: int = 0, **variables: str) -> str:
    """Run a command in a clone and return what it printed.

    Raises:
        RuntimeError: it ended with another exit code.
    """
    done = subprocess.run(
        command, cwd=folder, env=environment(folder) | variables, capture_output=True, text=True, check=False
    )
    if done.returncode != code:
        raise RuntimeError(f"{command} in {folder} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def stages_run(said: str) -> set[str]:
    """Return the stages that `dvc repro` ran, by what it printed; those taken from its run-cache are none."""
    return {line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")}


def stages_restored(said: str) -> set[str]:
    """Return the stages that `dvc repro` took from its run-cache, by what it printed."""
    return {line.split("'")[1] for line in said.splitlines() if line.startswith("Stage") and "is cached" in line}


def kill_session(leader: int) -> None:
    """Kill the process group of a process that leads a session, and wait until the session is empty."""
    os.killpg(leader, signal.SIGKILL)
    while any(_session(path) == leader for path in Path("/proc").iterdir() if path.name.isdecimal()):
        time.sleep(0.01)


def _session(process: Path) -> int:
    """Return the session of a living process, by its folder in /proc; 0 if it has ended."""
    try:
        state, _, _, session = (process / "stat").read_text().rpartition(")")[2].split()[:4]
    except OSError:
        return 0
    return 0 if state == "Z" else int(session)


def trainings(folder: Path) -> set[str]:
    """Return the keys of the finished trainings in a clone's store."""
    return {path.parent.name for path in (folder / ".imix/trainings").glob("*/result.json")}


def outs(folder: Path) -> dict[str, str]:
    """Return the outs in dvc.lock, with their hashes there."""
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", [])}


def contents(folder: Path, paths: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of every file of some outs."""
    found = [folder / path for path in paths]
    files = [file for path in found for file in ([path] if path.is_file() else path.rglob("*"))]
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.is_file()
    }
