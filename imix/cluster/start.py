"""Start a run: refuse what would go wrong later, connect to a cluster, and run the stages."""

import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dask
import filelock

from imix.cluster import clusters, worker
from imix.cluster.graph import Graph, git
from imix.cluster.scheduling import Run
from imix.errors import UserError

# of the client, that stages read or that change how they round
PASSED = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG", "PYTHONPATH")


def run(
    targets: Sequence[str], workers: int | None, scheduler: str | None, cluster: str | None, keep_going: bool
) -> None:
    """Run the stale ones of some stages and of all that they depend on.

    Args:
        targets: as of `dvc repro`. workers: stages side by side. scheduler: the address of one that
            runs.
        cluster: a class of Dask clusters. keep_going: run what does not depend on a stage that
            failed.

    Raises:
        UserError: options that exclude each other, changes that workers would not see, another run
            in this folder, a stage failed, or the scheduler was lost.
        Stopped: a signal came, and what ran has saved.
    """
    if scheduler and (cluster or workers):
        raise UserError("--scheduler: its cluster runs already; leave out --cluster and --workers")
    address = scheduler or (None if cluster or workers else dask.config.get("scheduler-address", None))
    with _alone():
        graph = Graph(targets)
        if graph.fresh():
            print("imix run: all stages are up to date", file=sys.stderr)
            return
        commit = _commit(graph) if address or cluster else None
        with _job(graph, commit) as job, clusters.connected(address, cluster, workers) as client:
            print(f"imix run: dashboard at {client.dashboard_link}", file=sys.stderr, flush=True)
            Run(graph, client, job, keep_going).run(timed=not commit)


@contextmanager
def _alone() -> Iterator[None]:
    """Keep a second run out of this folder."""
    path = Path(".dvc", "tmp", "imix-run.lock")
    if not path.parent.parent.is_dir():
        raise UserError("no DVC repository here; run this in the project's folder")
    path.parent.mkdir(exist_ok=True)
    try:
        with filelock.FileLock(path, timeout=0):
            yield
    except filelock.Timeout:
        raise UserError(f"{path}: another `imix run` works in this folder; wait for it, or stop it") from None


def _commit(graph: Graph) -> str:
    """Return the commit that workers make their clones of.

    Raises:
        UserError: what they run is not committed.
    """
    if changes := graph.unreachable():
        raise UserError(f"workers run the last commit, with params.yaml as it is here; commit {', '.join(changes)}")
    return git("rev-parse", "HEAD").strip()


@contextmanager
def _job(graph: Graph, commit: str | None) -> Iterator[worker.Job]:
    """Yield what all stages have in common, and keep a copy of params.yaml for clones meanwhile."""
    store = Path(os.environ.get("IMIX_STORE") or ".imix").absolute()
    environment = {key: value for key, value in os.environ.items() if key.startswith("IMIX_") or key in PASSED}
    if environment.get("IMIX_DEVICE", "").startswith("cuda:"):
        environment["IMIX_DEVICE"] = "cuda"  # which one, CUDA_VISIBLE_DEVICES says to each worker
    job = worker.Job(
        uuid.uuid4().hex[:8], str(Path.cwd()), graph.cache, str(store / "logs"), commit,
        environment | {"IMIX_STORE": str(store)}, worker.versions(),
    )  # fmt: skip
    saved = worker.parameters(job)
    try:
        if commit and Path(saved.name).exists():
            saved.parent.mkdir(parents=True)
            shutil.copy(saved.name, saved)
        yield job
    finally:
        shutil.rmtree(saved.parent, ignore_errors=True)
