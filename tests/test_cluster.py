"""`imix run` on a pipeline of small scripts: what runs where, what is recorded, and what goes wrong."""

import json
import os
import re
import shutil
import signal
import threading
import time
from contextlib import nullcontext

import dask
import pytest
import yaml
from distributed import Client

from imix.cluster import clusters, display, forecast, scheduling, start, worker
from imix.cluster.graph import Graph
from imix.errors import Stopped, UserError
from tests import clones

ITEMS = ["a", "b", "c"]
PIPELINE = """
stages:
  settings:
    cmd: python -S stage.py settings
    deps: [params.yaml, stage.py]
    outs: [data/settings]
  train:
    matrix: {n: "${items}"}
    cmd: python -S stage.py train ${item.n}
    deps: [data/settings]
    outs: ["data/train/${item.n}"]
  evaluate:
    matrix: {n: "${items}"}
    cmd: python -S stage.py evaluate ${item.n}
    deps: ["data/train/${item.n}"]
    outs: ["data/metrics/${item.n}"]
  report:
    cmd: python -S stage.py report
    deps: [data/metrics]
    outs:
      - report.txt:
          cache: false
"""
# notes that it runs; then does what a file of its name in IMIX_CONTROL says, once if that ends in "once"
STAGE = """
import os, pathlib, signal, sys, time
name, control = "-".join(sys.argv[1:]), pathlib.Path(os.environ["IMIX_CONTROL"])
with (control / "ran").open("a") as file:
    print(name, os.getcwd(), os.environ.get("IMIX_WORKERS"), os.environ.get("OMP_NUM_THREADS"), file=file)
order = control / name
todo = order.read_text() if order.exists() else ""
if "once" in todo:
    order.unlink()
if "wait" in todo: # before a kill, after which the stop may come at once
    def save(*_):
        (control / (name + ".saved")).touch()
        sys.exit(130)
    signal.signal(signal.SIGINT, save)
if "kill" in todo:
    parent = lambda number: int(open(f"/proc/{number}/stat").read().rpartition(")")[2].split()[1])
    runner = os.getpid()
    while "imix.cluster.runner" not in open(f"/proc/{runner}/cmdline").read():
        runner = parent(runner)
    os.kill(parent(runner) if "worker" in todo else runner, signal.SIGKILL)
if "fail" in todo:
    sys.exit("imix: error: " + name + " cannot")
if "wait" in todo:
    (control / (name + ".waits")).touch()
    time.sleep(60)
stage, *item = sys.argv[1:]
params = pathlib.Path("params.yaml").read_text() if stage == "settings" else ""
inputs = {"settings": [], "train": ["data/settings"], "evaluate": ["data/train/" + "".join(item)]}
read = inputs.get(stage, sorted(map(str, pathlib.Path("data/metrics").glob("*"))))
text = name + params + "".join(pathlib.Path(path).read_text() for path in read)
folder = {"settings": "data/settings", "report": "report.txt", "train": "data/train/", "evaluate": "data/metrics/"}
path = pathlib.Path(folder[stage] + "".join(item))
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(text)
"""
ALL = {"settings", "report", *(f"{stage}-{n}" for stage in ("train", "evaluate") for n in ITEMS)}


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("template")
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "stage.py").write_text(STAGE)
    (folder / "params.yaml").write_text(yaml.safe_dump({"items": ITEMS}))
    (folder / ".gitignore").write_text("/data\n/report.txt\n/.imix\n")
    clones.git(folder, "init", "-q")
    for key, value in (("name", "test"), ("email", "test@example.org")):
        clones.git(folder, "config", f"user.{key}", value)
    clones.run(folder, "dvc", "init", "-q")
    clones.git(folder, "add", "-A")
    clones.git(folder, "commit", "-qm", "pipeline")
    return folder


@pytest.fixture
def home(template, tmp_path, monkeypatch):
    """A repository with the pipeline, which is the current folder."""
    folder = tmp_path / "home"
    shutil.copytree(template, folder)
    (tmp_path / "control").mkdir()
    monkeypatch.setenv("IMIX_CONTROL", str(tmp_path / "control"))
    monkeypatch.delenv("IMIX_STORE")
    monkeypatch.setenv("SHELL", "/bin/sh")
    monkeypatch.setenv("PYTHONPATH", str(clones.ROOT))
    monkeypatch.setattr(forecast, "COMMAND", ("-c", ""))  # there is no study
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def cluster():
    with clusters.here(2) as made:
        yield made


@pytest.fixture
def client(cluster):
    with Client(cluster, set_as_default=False) as made:
        made.wait_for_workers(2)
        yield made


def control(home, name, text=None):
    path = home.parent / "control" / name
    if text:
        path.write_text(text)
    return path


def ran(home, keep=False):
    path = control(home, "ran")
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    if not keep:
        path.unlink(missing_ok=True)
    return lines


def names(lines):
    return sorted(name for name, *_ in lines)


def run(client, *targets, clones=False, keep_going=False, **changes):
    graph = Graph(targets)
    with start._job(graph, start._commit(graph) if clones else None) as job:
        made = scheduling.Run(graph, client, job._replace(**changes), keep_going)
        made.run(timed=False)
    return made


def lock(folder):
    return yaml.safe_load((folder / "dvc.lock").read_text())


@pytest.fixture(scope="module")
def serial(template, tmp_path_factory):
    """dvc.lock of `dvc repro`."""
    folder = tmp_path_factory.mktemp("serial")
    shutil.copytree(template, folder / "home")
    clones.run(folder / "home", "dvc", "repro", IMIX_CONTROL=str(folder), SHELL="/bin/sh")
    return lock(folder / "home")


@pytest.mark.parametrize("elsewhere", [False, True])
def test_all_stages_run_once_and_are_recorded_as_by_dvc(home, client, serial, elsewhere):
    run(client, clones=elsewhere)
    lines = ran(home, keep=True)
    assert names(lines) == sorted(ALL)
    at_home = {name for name, folder, *_ in lines if folder == str(home)}
    assert at_home == ({"report"} if elsewhere else ALL)  # its out is not in DVC's cache
    assert lock(home) == serial
    assert clones.stages_run(clones.run(home, "dvc", "repro")) == set()
    assert clones.git(home, "status", "--porcelain").splitlines() == ["?? dvc.lock"]
    assert not run(client).left and names(ran(home)) == sorted(ALL)  # of before


def test_only_what_is_stale_runs(home, client):
    (home / "params.yaml").write_text(yaml.safe_dump({"items": ["b", "d"]}))  # not committed
    run(client, "evaluate@b", clones=True)
    assert names(ran(home)) == ["evaluate-b", "settings", "train-b"]
    shutil.rmtree(home / "data/metrics")
    (home / "data/train/b").unlink()
    run(client, "evaluate", clones=True)
    assert names(ran(home)) == ["evaluate-d", "train-d"]  # the others come from DVC's run-cache
    assert Graph(["evaluate"]).fresh()


def test_a_stage_that_another_process_works_on_waits_for_it(home, client):
    """As when `imix run` starts again while the stages of a killed one still save."""
    run(client)
    graph, lock_file = Graph(), home / ".dvc/tmp/rwlock"
    assert graph.fresh() and graph.stale(["train@a", "train@b"]) == set()
    other = {"pid": os.getppid(), "cmd": "dvc repro"}
    lock_file.write_text(json.dumps({"read": {}, "write": {str(home / "data/train/a"): other}}))
    assert not graph.fresh() and graph.stale(["train@a", "train@b"]) == {"train@a"}
    timer = threading.Timer(2, lambda: lock_file.write_text("{}"))
    timer.start()
    run(client, "train@a")
    timer.join()
    assert names(ran(home)) == sorted(ALL)  # nothing again


def test_a_stages_environment_is_that_of_dvc_repro(home, client, monkeypatch):
    cores = str(max(1, worker.cores() // 2))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    run(client, "settings")
    assert ran(home) == [["settings", str(home), cores, "None"]]
    monkeypatch.setenv("IMIX_WORKERS", "7")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    (home / "params.yaml").write_text("items: [a]")
    run(client, "settings")
    assert ran(home) == [["settings", str(home), "7", "3"]]


def test_a_users_error_runs_once_and_names_itself(home, client, capsys):
    control(home, "train-a", "fail")
    with pytest.raises(UserError, match=r"train@a: failed; \d of 8 stages are not done; run it again"):
        run(client)
    assert "imix: error: train-a cannot" in capsys.readouterr().err
    assert names(ran(home)).count("train-a") == 1
    control(home, "train-a").unlink()
    run(client)
    assert set(names(ran(home))) >= {"train-a", "evaluate-a", "report"}


def test_keep_going_runs_what_does_not_depend_on_a_failure(home, client):
    control(home, "train-a", "fail")
    with pytest.raises(UserError, match="train@a: failed; 3 of 8 stages are not done"):
        run(client, keep_going=True)
    assert names(ran(home)) == sorted(ALL - {"evaluate-a", "report"})


@pytest.mark.parametrize("what,elsewhere", [("kill", False), ("kill worker", True)])
def test_what_a_lost_process_did_runs_again(home, client, serial, what, elsewhere):
    control(home, "train-b", f"{what} wait once")
    run(client, clones=elsewhere)
    assert names(ran(home)) == sorted([*ALL, "train-b"])
    assert lock(home) == serial
    deadline = time.monotonic() + 5  # the stage that was left alone has saved
    while not control(home, "train-b.saved").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_stage_whose_processes_always_die_fails(home, client):
    control(home, "train-b", "kill")
    with pytest.raises(UserError, match="train@b: failed"):
        run(client, "train@b")
    assert names(ran(home)).count("train-b") == scheduling.LOSSES + 1


def test_ctrl_c_saves_what_runs(home, client):
    for name in ("train-a", "train-b"):
        control(home, name, "wait once")

    def interrupt():
        while not all(control(home, f"train-{n}.waits").exists() for n in "ab"):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(Stopped, match="run: stopped; run it again to continue"):
        run(client)
    assert all(control(home, f"train-{n}.saved").exists() for n in "ab")
    assert names(ran(home)) == ["settings", "train-a", "train-b"]
    run(client)
    assert names(ran(home)) == sorted(ALL - {"settings"})


def test_workers_with_another_torch_or_no_view_of_home_are_refused(home, client, capsys):
    versions = worker.versions() | {"torch": "0.1"}
    with pytest.raises(UserError, match="no worker is left that can run stages; see above"):
        run(client, "settings", versions=versions)
    assert f"has torch {worker.versions()['torch']}, not 0.1; it is not used" in capsys.readouterr().err
    with pytest.raises(UserError, match="no worker is left that can run stages; see above"):
        run(client, "settings", home="/nowhere", commit="HEAD")
    assert "cannot run stages: no clone of /nowhere" in capsys.readouterr().err
    assert ran(home) == [] and not (home / "dvc.lock").exists()


def test_a_second_run_in_the_same_folder_is_refused(home):
    with start._alone(), pytest.raises(UserError, match=r"imix-run\.lock: another `imix run` works in this folder"):
        start.run([], None, None, None, False)
    with start._alone():
        pass


@pytest.mark.parametrize("path,reaches", [("stage.py", False), ("dvc.yaml", False), ("params.yaml", True), ("x", True)])
def test_uncommitted_code_is_refused_where_it_would_not_reach_the_workers(home, path, reaches):
    with (home / path).open("a") as file:
        file.write("\n# changed\n")
    refused = pytest.raises(UserError, match=rf"workers run the last commit.*; commit {path}")
    with nullcontext() if reaches else refused:
        start._commit(Graph())


def test_outs_that_do_not_reach_home_are_an_error(home, tmp_path):
    graph = Graph(["settings"])
    out = {"path": "data/settings", "hash": "md5", "md5": "0" * 32, "size": 1}
    entry = graph.entry("settings") | {"outs": [out]}
    with pytest.raises(UserError, match=r"settings: ran, but its outs are not in .*cache; that folder must be the"):
        graph.record("settings", entry, elsewhere=True)


@pytest.mark.parametrize(
    "arguments,message",
    [
        (([], 2, "tcp://127.0.0.1:1", None, False), "--scheduler: its cluster runs already; leave out"),
        (([], None, "tcp://127.0.0.1:1", None, False), r"tcp://127.0.0.1:1: .*(Timed out|timed out|refused)"),
        (([], None, None, "dask_jobqueue.Nothing", False), "dask_jobqueue.Nothing: .*Nothing"),
        ((["nothing"], None, None, None, False), "DVC: .*nothing"),
    ],
)
def test_what_cannot_be_is_one_line(home, monkeypatch, arguments, message):
    monkeypatch.setattr(clusters, "CONNECT_SECONDS", 0.1)
    with pytest.raises(UserError, match=message) as caught:
        start.run(*arguments)
    assert "\n" not in str(caught.value)


def test_outside_of_dvcs_repositories_it_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no DVC repository here"):
        start.run([], None, None, None, False)


@pytest.fixture
def eight_gpus(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    listed = "".join(f"echo 'GPU {n}: NVIDIA H100 (UUID: GPU-{n})'\n" for n in range(8))
    (tmp_path / "bin/nvidia-smi").write_text(f"#!/bin/sh\n{listed}")
    (tmp_path / "bin/nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    for name in ("IMIX_DEVICE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


def shares(count=None):
    options = [each["options"] for each in clusters.workers(count).values()]
    return [(each["resources"], each.get("env", {}).get("CUDA_VISIBLE_DEVICES")) for each in options]


def test_a_worker_has_a_gpu_of_its_own(eight_gpus, monkeypatch):
    assert shares() == [({"GPU": 1}, str(number)) for number in range(8)]
    assert shares(2) == [({"GPU": 4}, "0,2,4,6"), ({"GPU": 4}, "1,3,5,7")]
    assert shares(16)[7:9] == [({"GPU": 1}, "7"), ({"GPU": 1}, "0")]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert shares() == [({"GPU": 1}, "3"), ({"GPU": 1}, "5")]
    monkeypatch.setenv("IMIX_DEVICE", "cuda:6")
    assert shares() == [({"GPU": 1}, "6")]
    monkeypatch.setenv("IMIX_DEVICE", "cpu")
    assert shares() == [({"CPU": 1}, None)] * worker.cores()
    assert shares(1) == [({"CPU": worker.cores()}, None)]


def test_the_time_left_follows_the_plan_and_the_machine(monkeypatch):
    monkeypatch.setattr(forecast, "COMMAND", ("-c", 'print(\'{"out/a": 10, "out/b": 30, "other": 5}\')'))
    made = forecast.Forecast({name: [f"out/{name}"] for name in "abcd"}, timed=True)
    made.process.wait()
    made.poll()
    assert [made.weight(name) for name in "abc"] == [10, 30, 0]
    assert made.seconds_left("ab", {}, 1) is None  # how long planned seconds take here is not known
    made.spent["a"] = 20.0
    assert made.seconds_left("b", {"b": 15.0}, 1) == 45  # twice as long as planned
    assert made.seconds_left("bc", {}, 1) == 60  # of c nothing is known
    made.spent["d"] = 8.0
    assert made.seconds_left("bc", {}, 1) == 68
    assert made.seconds_left("bc", {}, 2) == 60  # the longest one
    made.close()


def test_the_table_counts_by_kind(capsys):
    made = display.Display(["train@a", "train@b", "report"])
    table = made.table({"train@a": 61.0}, ["report"], "00:10")
    rows = list(zip(*(list(column.cells) for column in table.columns), strict=True))
    assert rows == [
        ("train", "1", "", "0", ""),
        ("report", "0", "", "1", ""),
        ("all", "1", "1", "1", "00:10"),
        ("  train@a", "01:01", "", "", ""),
    ]
    made.printed -= display.LINE_SECONDS + 1
    made.show({"train@a": 61.0}, ["report"], 10.0)
    made.show({"train@a": 61.5}, ["report"], 9.5)
    assert capsys.readouterr().err == "imix run: 1 running, 1 done, 1 left; about 00:10 left\n"


SLURM = re.search(r"```yaml\n(# .*?jobqueue:.*?)```", (clones.ROOT / "docs/scale.md").read_text(), re.DOTALL)


def test_the_documented_slurm_configuration_asks_for_one_gpu_a_worker():
    jobqueue = pytest.importorskip("dask_jobqueue")
    asked = dask.config.merge(dask.config.config, yaml.safe_load(SLURM[1]))
    with dask.config.set(asked), jobqueue.SLURMCluster() as made:
        script = made.job_script()
    assert {"#SBATCH --gres=gpu:1", "#SBATCH --cpus-per-task=8", "#SBATCH -n 1"} <= set(script.splitlines())
    assert re.search(r"--nthreads 1 .*--resources GPU=1 .*--lifetime 23h", script)


def test_a_worker_that_closes_lets_its_stage_save_and_gives_it_back(home, client):
    """The last test with the module's workers: one closes."""
    control(home, "train-a", "wait once")

    def close():
        while not control(home, "train-a.waits").exists():
            time.sleep(0.05)
        busy = [address for address, keys in client.processing().items() if keys]
        client.retire_workers(busy, close_workers=True)

    threading.Thread(target=close, daemon=True).start()
    run(client, "train@a")
    assert control(home, "train-a.saved").exists() and names(ran(home)) == ["settings", "train-a", "train-a"]


def test_a_lost_scheduler_is_one_line_and_stages_save(home):
    control(home, "train-a", "wait once")

    def close(cluster):
        while not control(home, "train-a.waits").exists():
            time.sleep(0.05)
        cluster.sync(cluster.scheduler.close)

    quick = dask.config.set({"distributed.comm.timeouts.connect": "1s"})
    with quick, clusters.here(1) as own, Client(own, set_as_default=False) as client:
        threading.Thread(target=close, args=(own,), daemon=True).start()
        with pytest.raises(UserError, match="the scheduler is lost; run it again to continue"):
            run(client, "train@a")
    deadline = time.monotonic() + 5
    while not control(home, "train-a.saved").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
