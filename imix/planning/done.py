"""Find the stages that DVC would not rerun, for params.yaml or a changed copy of it."""

import shutil
from functools import cache
from pathlib import Path
from typing import Any

from dvc.repo import Repo

from imix.files import write_json
from imix.paths import SETTINGS
from imix.settings.merging import Block

COPIED = ("dvc.yaml", "dvc.lock", ".dvcignore", "imix", "stages")  # the graph, and what its first stage depends on


class Recorded:
    """DVC's record of the stages.

    A stage is done when dvc.lock has it with the same command, settings, code and data, and DVC's
    cache has its outputs. Of a folder, DVC's list of its files is looked for, not each file. The
    run cache is not searched.

    Args:
        folder: with the params.yaml that is planned for. files: what
            `imix.settings.resolved.resolved` made of it.

    Raises:
        dvc.exceptions.DvcException: the current folder is in no DVC repository, or one that DVC
            cannot read.
    """

    def __init__(self, folder: Path, files: dict[Path, Block]) -> None:
        with Repo() as here:
            self.cache = here.cache.local
        for name in filter(lambda name: Path(name).exists(), COPIED):
            (shutil.copytree if Path(name).is_dir() else shutil.copy)(name, folder / name)
        for path, content in files.items():
            write_json(folder / SETTINGS / path, content)
        (folder / ".dvc").mkdir()
        config = {"core": {"no_scm": True, "analytics": False, "site_cache_dir": str(folder / "site")}}
        with Repo(str(folder), config=config) as graph:
            self.stages = {stage.name: stage for stage in graph.index.stages}
            self.makers = {out.def_path: stage for stage in self.stages.values() for out in stage.outs}
        self.done = cache(self._done)

    def _done(self, output: str) -> bool:
        """Whether the stage that writes ``output`` need not run."""
        stage = self.makers.get(output)
        if stage is None or stage.cmd_changed or not all(map(self.same, stage.deps)):
            return False
        return all(map(self.cached, stage.outs))

    def cached(self, output: Any) -> bool:
        """Whether DVC's cache has an output or a dependency as dvc.lock records it."""
        return bool(output.hash_info) and self.cache.exists(output.hash_info.value)

    def same(self, dep: Any) -> bool:
        """Whether a dependency is, or will be, as dvc.lock records it."""
        if maker := self.makers.get(dep.def_path):
            made = next(out for out in maker.outs if out.def_path == dep.def_path)
            return self.done(dep.def_path) and made.hash_info == dep.hash_info
        return dep.exists and not dep.changed_checksum()
