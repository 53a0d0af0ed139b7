"""Clones of this repository for scripts that run, kill and compare whole pipelines; collected by no test run."""

import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
FILES = ("params.yaml", "dvc.yaml", "README.md", ".gitignore", ".dvcignore")
ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "IMIX_THREADS": os.environ.get("IMIX_THREADS", "1"),
    "IMIX_RESUME": ".resume",
}


def clone(
    folder: Path,
    grid: dict[str, Any],
    epochs: int | None = None,
    ablations: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
) -> Path:
    """The code and settings in a repository of their own: another grid, shorter trainings, other ablations, less data."""
    for name in ("imix", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["grid"] |= {"name": "clone"} | grid
    params["projection"]["rows"], params["projection"]["perplexity"], params["transfer"]["pairs"] = 50, 5.0, []
    params["ablations"] = {"run": [], "datasets": params["grid"]["datasets"], "seeds": [0]} | (ablations or {})
    for name, changes in (data or {}).items():
        params["data"][name] |= changes
    if epochs is not None:
        params["pretrain"]["warmup_epochs"] = 0
        for dataset in params["grid"]["datasets"]:
            params["recipe"][dataset].pop("warmup_epochs", None)
            for mixes in params["cell"][dataset].values():
                for cell in mixes.values():
                    cell.pop("warmup_epochs", None)
                    cell["epochs"] = epochs
    (folder / "params.yaml").write_text(json.dumps(params))  # which is YAML, and has no aliases
    git(folder, "init", "-q")
    run(folder, "dvc", "init", "-q")
    run(folder, "dvc", "config", "core.analytics", "false")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "clone")
    return folder


def git(folder: Path, *command: str) -> None:
    """Run git, as somebody."""
    run(folder, "git", "-c", "user.name=test", "-c", "user.email=test@example.org", *command)


def run(folder: Path, *command: str, **environment: str) -> str:
    """Run a command to its successful end; what it said."""
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT | environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command} in {folder} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def stage(folder: Path, name: str, **identity: Any) -> list[str]:
    """The command of a stage."""
    return [sys.executable, "-m", f"stages.{name}", *(word for key, value in identity.items() for word in (f"--{key}", str(value)))]


def outs(folder: Path) -> dict[str, str]:
    """All outs that dvc.lock names, with their hashes there."""
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", [])}


def contents(folder: Path, paths: Iterable[str]) -> dict[str, str]:
    """SHA-256 of every file of these outs, what `timeless` leaves of it."""
    files = [file for path in paths for file in ([folder / path] if (folder / path).is_file() else (folder / path).rglob("*"))]
    return {str(f.relative_to(folder)): hashlib.sha256(timeless(f)).hexdigest() for f in files if f.is_file() and f.suffix != ".tmp"}


def timeless(file: Path) -> bytes:
    """A file's content without the only thing that two equal runs differ in: how many seconds a training took, and the commit."""
    content = file.read_bytes()
    if file.suffix == ".json":
        record = json.loads(content)
        if "seconds" in record and "git" in record:
            return json.dumps(record | {"seconds": 0, "git": ""}).encode()
    if file.suffix == ".csv" and b"train_seconds" in content:
        rows = list(csv.DictReader(io.StringIO(content.decode())))
        return json.dumps([{key: value for key, value in row.items() if key != "train_seconds"} for row in rows]).encode()
    return content
