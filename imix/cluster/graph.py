"""DVC's graph of the stages here: what is stale, what is ready, and the record of what was done."""

import logging
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dvc.exceptions import CheckoutError, DvcException, NotDvcRepoError
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.repo.reproduce import get_active_graph, plan_repro
from dvc.stage import PipelineStage
from dvc.stage.loader import StageLoader
from dvc.stage.serialize import to_lockfile

from imix.cluster.orders import Entry
from imix.cluster.runner import WaitingLock
from imix.errors import UserError

FLUSH_SECONDS = 5.0  # between two writes of dvc.lock, at least
FLUSH_SHARE = 0.05  # of the time may go into writing it
PARAMS = "params.yaml"


class Graph:
    """The stages that some targets need, by name, in the order in which `dvc repro` would run them.

    dvc.lock is written for many stages at once: DVC reads and writes all of it, which takes seconds
    where there are a thousand stages. What is not written yet when the process is killed is in
    DVC's run-cache.

    Args:
        targets: as of `dvc repro`; all stages by default.

    Raises:
        UserError: no DVC repository, or one that DVC cannot read; an unknown target.
    """

    def __init__(self, targets: Sequence[str] = ()) -> None:
        logging.getLogger("dvc").setLevel(logging.WARNING)  # else it says whenever it writes dvc.lock
        with explained():
            self.repo = Repo()
            self.repo.lock = WaitingLock(self.repo)
            with self.repo.lock:
                graph = get_active_graph(self.repo.index.graph)
                chosen = [stage for target in targets for stage in self.repo.stage.collect(target)]
                order = plan_repro(graph, chosen or None)
        if other := next((stage for stage in order if not isinstance(stage, PipelineStage)), None):
            raise UserError(f"{other.addressing}: is no stage of a dvc.yaml; use `dvc repro`")
        self.stages = {stage.addressing: stage for stage in order}
        self.parents = {stage.addressing: [each.addressing for each in graph.successors(stage)] for stage in order}
        self.children: dict[str, list[str]] = {name: [] for name in self.stages}
        for name, parents in self.parents.items():
            for parent in parents:
                self.children[parent].append(name)
        self.entries: dict[str, Entry] = {}  # of the stages that this run has done
        self._left: list[str] = []  # of those, the ones that dvc.lock lacks
        self._flushed, self._cost = time.monotonic(), 0.0

    @property
    def cache(self) -> str:
        """The folder of DVC's cache."""
        return str(Path(self.repo.cache.local_cache_dir).absolute())

    def stale(self, names: Sequence[str]) -> set[str]:
        """Return which stages have to run; all that they depend on has."""
        with explained(), self.repo.lock:
            return {name for name in names if _changed(self.stages[name])}

    def fresh(self) -> bool:
        """Whether no stage has to run."""
        with explained(), self.repo.lock:
            return not any(map(_changed, self.stages.values()))

    def cached(self, name: str) -> bool:
        """Whether DVC caches all outs of a stage, so that it can run in a clone."""
        return all(out.use_cache for out in self.stages[name].outs)

    def outs(self, name: str) -> list[str]:
        """Return the paths that a stage writes."""
        return [out.def_path for out in self.stages[name].outs]

    def entry(self, name: str) -> Entry:
        """Return a stage's entry of dvc.lock, as it is or will be."""
        if name not in self.entries:
            self.entries[name] = to_lockfile(self.stages[name])[self.stages[name].name]
        return self.entries[name]

    def record(self, name: str, entry: Entry, elsewhere: bool) -> None:
        """Note that a stage is done.

        Args:
            elsewhere: in a clone: its outs are brought here.

        Raises:
            UserError: DVC's cache lacks the outs.
        """
        stage = self.stages[name]
        StageLoader.fill_from_lock(stage, entry)
        stage.cmd_changed = False
        self.entries[name] = entry
        if elsewhere:
            try:
                with self.repo.lock, self.repo.scm_context(autostage=False, quiet=True):
                    stage.checkout(force=True)
            except (CheckoutError, FileNotFoundError):
                raise UserError(
                    f"{name}: ran, but its outs are not in {self.cache}; that folder must be the same on all machines"
                ) from None
        self._left.append(name)
        if time.monotonic() - self._flushed > max(FLUSH_SECONDS, self._cost / FLUSH_SHARE):
            self.flush()

    def flush(self) -> None:
        """Write what dvc.lock lacks."""
        began, files = time.monotonic(), {}
        for name in self._left:
            stage = self.stages[name]
            files.setdefault(stage.dvcfile.path, (stage.dvcfile, []))[1].append(stage)
        with explained():
            for file, stages in files.values():
                with self.repo.lock:
                    file.dump_stages(stages, update_pipeline=False)
        self._left = []
        self._flushed = time.monotonic()
        self._cost = self._flushed - began

    def unreachable(self) -> list[str]:
        """Return changes that git has not committed to what clones are made of, params.yaml aside.

        Raises:
            UserError: this is no git repository.
        """
        outs = {Path(out.fs_path) for stage in self.stages.values() for out in stage.outs}
        made = outs | {parent for out in outs for parent in out.parents}  # a folder that stages write into, too
        deps = {dep.def_path for stage in self.stages.values() for dep in stage.deps if Path(dep.fs_path) not in made}
        sources = deps - {PARAMS}
        files = {stage.path for stage in self.stages.values()}
        paths = [".dvc/config", ".dvcignore", *sources, *files]
        changed = git("status", "--porcelain", "--", *(path for path in paths if Path(path).exists()))
        return [line[3:] for line in changed.splitlines()]


def _changed(stage: PipelineStage) -> bool:
    """Whether a stage has to run.

    One that another DVC process works on counts: its runner waits, then checks again.
    """
    try:
        return stage.changed()
    except LockError:
        return True


def git(*command: str) -> str:
    """Return what a git command prints.

    Raises:
        UserError: it fails.
    """
    done = subprocess.run(["git", *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"git {command[0]}: {' '.join(done.stderr.split())}; clones for workers are made with git")
    return done.stdout


@contextmanager
def explained() -> Iterator[None]:
    """Turn DVC's errors into one line."""
    try:
        yield
    except NotDvcRepoError:
        raise UserError("no DVC repository here; run this in the project's folder") from None
    except DvcException as error:
        raise UserError(f"DVC: {' '.join(str(error).split())}") from None
