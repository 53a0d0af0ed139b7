"""What DVC need not run again: stages whose command and dependencies were seen before, with their outputs in DVC's cache.

The graph is DVC's own, of the parameters that are planned with; what was seen stands in dvc.lock and in the run-cache.
Nothing is run, written or checked out.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from imix import settings
from imix.errors import UserError
from imix.files import DATA, ablation_folder

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Hashes = dict[str, str]  # of paths: md5; with .dir at the end a folder's


class Stage(NamedTuple):
    """One stage of the graph."""

    command: str
    deps: list[str]
    outs: list[str]
    committed: list[str]  # those of its outputs that git keeps, not DVC


def md5(path: Path) -> str:
    """DVC's hash of a file, or of a folder without what .dvcignore names."""
    if path.is_file():
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    return folder_md5({file.relative_to(path).as_posix(): md5(file) for file in _files(path)})


def _files(folder: Path) -> list[Path]:
    """What DVC sees of a folder: all but what .dvcignore names."""
    return [file for file in folder.rglob("*") if file.is_file() and not file.name.startswith(".") and "__pycache__" not in file.parts]


def folder_md5(files: Hashes) -> str:
    """DVC's hash of a folder of these files, by their names in it."""
    listing = [{"md5": files[name], "relpath": name} for name in sorted(files)]
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


class Cached:
    """DVC's memory of this repository, asked about ``params``.

    Raises:
        dvc.exceptions.NotDvcRepoError: the current folder is in no DVC repository.
    """

    def __init__(self, params: settings.Params) -> None:
        from dvc.repo import Repo

        with Repo() as repo:
            self.objects = Path(repo.cache.local.path)
            runs = Path(repo.cache.legacy.path, "runs")
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            settings.write(params, root / settings.FOLDER, root / settings.ABLATIONS)
            files = [*root.rglob("*.json"), root / settings.FOLDER, root / settings.ABLATIONS]
            self.settings = {path.relative_to(root).as_posix(): md5(path) for path in files}
            self.stages = list(_graph(params, root))
        self.writer = {out: stage for stage in self.stages for out in stage.outs}
        self.committed = {out for stage in self.stages for out in stage.committed}
        self.seen: dict[str, list[tuple[Hashes, Hashes]]] = {}
        for entry in _entries(runs):
            deps, outs = ({each["path"]: each.get("md5", "") for each in entry.get(kind, [])} for kind in ("deps", "outs"))
            self.seen.setdefault(entry["cmd"], []).append((deps, outs))
        self.found, self.md5 = cache(self._found), cache(md5)  # type: ignore[method-assign]

    def done(self, output: Path) -> bool:
        """Whether the stage that writes ``output`` need not run."""
        return self.found(output.as_posix()) is not None

    def _found(self, output: str) -> Hashes | None:
        """Hashes of the outputs of the stage that writes ``output``, if they can be had without running it."""
        stage = self.writer.get(output)
        if stage is None:
            return None
        if output in self.settings:  # of other parameters than params.yaml's, perhaps: what they resolve to decides
            resolved = {out: self.settings[out] for out in stage.outs}
            return resolved if resolved in [outs for _, outs in self.seen.get(stage.command, [])] and self._have(resolved) else None
        now = {path: self.hash(path) for path in stage.deps}
        for deps, outs in self.seen.get(stage.command, []):
            if deps == now and self._have(outs):
                return outs
        return None

    def hash(self, path: str) -> str:
        """What a dependency's hash is or will be; empty if that is not known before stages have run."""
        if path in self.settings:
            return self.settings[path]
        inside = [out for out in self.writer if out.startswith(path + "/")]
        if inside:  # a folder of many stages' outputs, and of what other parameters left there
            files = {file.as_posix(): self.md5(file) for file in _files(Path(path)) if self._within(file.as_posix()) is None}
            for out in inside:
                if out in self.settings:
                    files |= {file: value for file, value in self.settings.items() if file.startswith(out + "/")}
                    continue
                found = self.found(out)
                if found is None:
                    return ""
                files |= self._members(out, found[out])
            return folder_md5({name[len(path) + 1 :]: value for name, value in files.items()})
        out = self._within(path)
        if out is None:
            return self.md5(Path(path)) if Path(path).exists() else ""
        found = self.found(out)
        return "" if found is None else found[out] if out == path else self._members(out, found[out])[path]

    def _within(self, path: str) -> str | None:
        """The output that a path is, or lies in."""
        return next((out for out in (path, *map(Path.as_posix, Path(path).parents)) if out in self.writer), None)

    def _members(self, path: str, value: str) -> Hashes:
        """The files of an output in the cache, by their paths: one, or those of a folder."""
        if not value.endswith(".dir"):
            return {path: value}
        return {f"{path}/{each['relpath']}": each["md5"] for each in json.loads(self._object(value).read_text())}

    def _object(self, value: str) -> Path:
        return self.objects / value[:2] / value[2:]

    def _have(self, outs: Hashes) -> bool:
        """Whether outputs lie in the cache, or, where git keeps them, in the repository."""
        for path, value in outs.items():
            if not self._object(value).exists():
                if path not in self.committed or not Path(path).exists() or self.md5(Path(path)) != value:
                    return False
            elif not all(self._object(member).exists() for member in self._members(path, value).values()):
                return False
        return True

    def variants(self, ablation: str, dataset: str, seed: int, asked: settings.Variants) -> list[bool]:
        """Which variants' results lie in the ablation's folder, under the names that `stages.ablate` gives them."""
        folder = ablation_folder(ablation, dataset, seed)
        card = self.hash((DATA / dataset / "tensors" / "card.json").as_posix())
        sha256 = json.loads(self._object(card).read_text())["sha256"] if card else ""
        done, code = [], settings.fingerprint("ablate")
        for v in asked.variants:
            identity = {"ablation": ablation, "dataset": dataset, "seed": seed, "method": v.method, "mix": v.mix, "value": v.value}
            identity["settings"] = v.pretraining().model_dump()
            inputs = json.dumps([identity, asked.evaluation.model_dump(), code, sha256, torch.__version__], sort_keys=True)
            done.append((folder / f"{v.value}.{v.method}.{v.mix}.{hashlib.sha256(inputs.encode()).hexdigest()[:16]}.json").exists())
        return done


def cached(params: settings.Params) -> Cached | None:
    """What DVC has of this repository; None where there is none.

    Raises:
        UserError: DVC cannot read its files.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError

    try:
        return Cached(params)
    except NotDvcRepoError:
        return None
    except DvcException as error:
        # the graph is asked in another folder
        raise UserError("DVC: " + re.sub(r"\S*/dvc\.yaml", "dvc.yaml", " ".join(str(error).split()))) from None


def _graph(params: settings.Params, root: Path) -> Iterator[Stage]:
    """The stages that DVC makes of dvc.yaml and the parameters, asked in an empty repository at ``root``."""
    from dvc.repo import Repo

    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text(f"[core]\n    no_scm = true\n    analytics = false\n    site_cache_dir = {root / 'site'}\n")
    (root / "params.yaml").write_text(yaml.safe_dump(params.model_dump(mode="json")))
    shutil.copy("dvc.yaml", root)
    with Repo(str(root)) as repo:
        for stage in repo.index.stages:
            committed = [out.def_path for out in stage.outs if not out.use_cache]
            yield Stage(stage.cmd, [dep.def_path for dep in stage.deps], [out.def_path for out in stage.outs], committed)


def _entries(runs: Path) -> Iterator[dict[str, Any]]:
    """What ran: entries of dvc.lock and of the run-cache."""
    lock = Path("dvc.lock")
    try:
        known = yaml.load(lock.read_text(), Loader) if lock.exists() else {}
        yield from known.get("stages", {}).values()
    except (yaml.YAMLError, AttributeError):
        raise UserError(f"{lock}: not what DVC writes; `git checkout {lock}` brings it back") from None
    for path in runs.glob("*/*/*"):
        with suppress(OSError, yaml.YAMLError):  # DVC may be at work
            entry = yaml.load(path.read_text(), Loader)
            if isinstance(entry, dict) and "cmd" in entry:
                yield entry
