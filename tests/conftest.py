import multiprocessing.forkserver
import os
import signal
from pathlib import Path

import pytest

from imix import arithmetic

arithmetic.choose()  # as stages do, before torch is imported
import torch

ROOT = Path(__file__).parents[1]
# a shell's background job ignores SIGINT, and so would the stages that tests start and interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)
# Long files start first, so that no core ends up with one of them alone. Those of the second line need the study
# that the first one runs, and would wait for it.
FIRST = (
    "test_pipeline.py", "test_settings.py", "test_planning.py", "test_cluster.py",
    "test_stages.py", "test_declared.py", "test_safety.py",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(item.path.name, len(FIRST)))


@pytest.fixture(autouse=True)
def at_root(monkeypatch, tmp_path):
    """Start each test in the project's folder, with the same random numbers and an empty store of its own."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("IMIX_STORE", str(tmp_path / "store"))
    torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other
    torch.manual_seed(0)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def environment():
    """Of subprocesses: this interpreter's directory first, no work left behind in the project's store."""
    import sys

    own = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "IMIX_STORE": ".imix"}
    return os.environ | own


@pytest.fixture
def fresh_workers():
    """Let workers see the environment of the test: the process that forks them keeps that of its own start."""
    stop = multiprocessing.forkserver._forkserver._stop
    stop()
    yield
    stop()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The clone with a small study that has run, and the stages that ran: `tests.clones.studied`."""
    from tests import clones

    return clones.studied(tmp_path_factory.getbasetemp())


@pytest.fixture
def clone(study):
    """The studied clone, which is put back after the test."""
    from tests import clones

    yield study[0]
    clones.restore(study[0])
