"""Workers, their display, and the jobs that they do; with tasks that take a moment where no training is needed."""

import fcntl
import json
import multiprocessing.forkserver
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from imix import dataset, errors, files, jobs, paths, progress, running, runtime, store
from imix.errors import Stopped, UserError
from tests import tasks, test_pretraining
from tests.conftest import ROOT
from tests.tasks import run, task

PRELOAD = ["imix.jobs", "imix.views.tabular", "imix.methods.npair"]
CELL = paths.Cell("tiny", "augmented", "npair", "imix")


def times(folder, name):
    """When a task began and ended, and in which slot."""
    begin = next(folder.glob(f"{name}.begin*"))
    return *(float(path.read_text().split()[0]) for path in (begin, folder / f"{name}.end")), int(begin.name[-1])


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module", autouse=True)
def two_workers():
    """Most tests share one process that forks workers, which keeps the environment of its start."""
    multiprocessing.forkserver._forkserver._stop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMIX_WORKERS", "2")
        patch.setenv("IMIX_DEVICE", "cpu")
        yield
    multiprocessing.forkserver._forkserver._stop()


def test_two_tasks_run_at_the_same_time_in_their_order(tmp_path):
    run(*(task(name, "nap", tmp_path, name, 0.4) for name in "abcd"))
    a, b, c, d = (times(tmp_path, name) for name in "abcd")
    assert max(a[0], b[0]) < min(a[1], b[1]) and min(c[0], d[0]) > min(a[1], b[1]) and a[0] < c[0] and b[0] < d[0]
    assert {a[2], b[2]} == {0, 1} == {c[2], d[2]}
    found = sorted([(begin, 1) for begin, *_ in (a, b, c, d)] + [(end, -1) for _, end, _ in (a, b, c, d)])
    assert max(sum(change for _, change in found[: k + 1]) for k in range(8)) == 2


def test_a_mistake_is_the_callers_and_the_others_save(tmp_path):
    tasks = [
        task("bad", "fails", tmp_path, "mistake"),
        task("a", "train", tmp_path, "a"),
        task("b", "train", tmp_path, "b"),
    ]
    with pytest.raises(UserError, match=r"^bad: params.yaml: x = 1: must be 2$"):
        run(*tasks)
    assert (tmp_path / "a.saved").exists() and not list(tmp_path.glob("b.*"))


def test_an_unexpected_exception_shows_its_traceback(tmp_path):
    with pytest.raises(RuntimeError, match=r"(?s)^bad:\nTraceback.*return 1 / 0.*ZeroDivisionError") as error:
        run(task("bad", "fails", tmp_path, "crash"))
    assert errors.explained(error.value) is None


def test_want_of_memory_says_what_to_change(tmp_path):
    with pytest.raises(UserError, match=r"^bad: out of memory: use fewer rows"):
        run(task("bad", "fails", tmp_path, "memory"))


@pytest.mark.parametrize("how,name", [("killed", "SIGKILL"), ("ended", "SIGTERM")])
def test_a_worker_that_is_killed_is_one_line(how, name, tmp_path):
    with pytest.raises(UserError, match=rf"^bad: its process was killed by {name}, .*run it again to continue$"):
        run(task("bad", "fails", tmp_path, how))


def test_a_task_that_cannot_arrive_is_said(tmp_path):
    with pytest.raises(RuntimeError, match=r"bad: its process failed before its work began \(exit code 1\)"):
        run(task("bad", "nap", tasks.CannotArrive()))


def test_a_signal_to_one_training_alone_ends_all(tmp_path):
    def end_one():
        path = until(lambda: next(tmp_path.glob("a.begin*"), None))
        until(lambda: path.read_text() and next(tmp_path.glob("b.begin*"), None))
        os.kill(int(path.read_text().split()[1]), signal.SIGTERM)

    from threading import Thread

    Thread(target=end_one).start()
    with pytest.raises(Stopped, match="a: stopped") as stopped:
        run(task("a", "train", tmp_path, "a"), task("b", "train", tmp_path, "b"))
    assert stopped.value.signal == signal.SIGTERM and (tmp_path / "b.saved").exists()


def test_warnings_of_workers_are_printed_once_by_the_parent(tmp_path, capsys):
    run(*(task(name, "fails", tmp_path, "says") for name in "abc"))
    assert capsys.readouterr().err == "imix: warning: the same for all\n"


def test_the_process_that_forks_workers_may_die(tmp_path):
    from threading import Thread

    def kill():
        until(lambda: list(tmp_path.glob("a.begin*")) and list(tmp_path.glob("b.begin*")))
        os.kill(multiprocessing.forkserver._forkserver._forkserver_pid, signal.SIGKILL)

    Thread(target=kill).start()
    run(task("a", "nap", tmp_path, "a", 1.0), task("b", "nap", tmp_path, "b", 0.5), task("c", "nap", tmp_path, "c", 0))
    assert all((tmp_path / f"{name}.end").exists() for name in "abc")


def test_workers_that_cannot_be_started_are_one_line(tmp_path, monkeypatch, fresh_workers):
    (tmp_path / "dies.py").write_text("import os\nos._exit(3)\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    with pytest.raises(UserError, match="no worker can be started"):
        running.run("stage", [task("a", "nap", tmp_path, "a", 0)], ["dies"])


def test_a_signal_to_all_while_workers_start_is_no_failure(tmp_path, monkeypatch, fresh_workers):
    (tmp_path / "dies.py").write_text("import os, signal\nos.kill(os.getppid(), signal.SIGTERM)\nos._exit(3)\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    with pytest.raises(Stopped, match="stage: stopped; run it again to continue"):
        running.run("stage", [task("a", "nap", tmp_path, "a", 0)], ["dies"])


@pytest.mark.parametrize("signalled,error", [(True, Stopped), (False, UserError)])
def test_a_worker_that_cannot_start_beside_another_is_a_failure_without_a_signal(
    signalled, error, tmp_path, monkeypatch
):
    started = running._started

    def dies(name, *args):
        if name == "b":
            until(lambda: list(tmp_path.glob("a.begin*")))
            if signalled:
                os.kill(os.getpid(), signal.SIGTERM)
            raise UserError("b: no worker can be started")
        return started(name, *args)

    monkeypatch.setattr(running, "_started", dies)
    with pytest.raises(error, match="stopped" if signalled else "b: no worker"):
        run(task("a", "train", tmp_path, "a"), task("b", "train", tmp_path, "b"))
    assert (tmp_path / "a.saved").exists()


@pytest.mark.parametrize("variable", ["IMIX_WORKERS", "IMIX_THREADS", "OMP_NUM_THREADS"])
def test_numbers_of_workers_and_threads_are_honoured_and_nonsense_refused(variable, monkeypatch):
    asks = runtime.workers if variable == "IMIX_WORKERS" else runtime.threads
    monkeypatch.delenv("IMIX_THREADS", raising=False)
    for value in ("0", "-1", "two", "1.5", "9999", " 1", "1" * 30):
        monkeypatch.setenv(variable, value)
        with pytest.raises(UserError, match=rf"^{variable} = '{value}': must be a whole number from 1 to 1024$"):
            asks()
    monkeypatch.setenv(variable, "3")
    assert asks() == 3
    monkeypatch.setenv("IMIX_THREADS", "2")
    assert runtime.threads() == 2
    runtime.configure()
    assert torch.get_num_threads() == 2
    monkeypatch.setenv("IMIX_THREADS", "1000")
    monkeypatch.delenv("IMIX_WORKERS")
    assert runtime.workers() == 1


def test_nonsense_is_the_callers_mistake(monkeypatch, fresh_workers, tmp_path):
    monkeypatch.setenv("IMIX_WORKERS", "many")
    with pytest.raises(UserError, match=r"^IMIX_WORKERS = 'many': must be"):
        run(task("a", "nap", tmp_path, "a", 0))


# a stage as a process of its own, which can be ended: `python -m tests.tasks`


def stage(folder, *asked):
    command = [sys.executable, "-m", "tests.tasks", str(folder), *asked]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    names = [each.split()[0] for each in asked[:2]]
    until(lambda: process.poll() is not None or all(list(folder.glob(f"{name}.begin*")) for name in names), 60)
    assert process.poll() is None, process.stderr.read()
    return process


def pids(folder):
    until(lambda: all(path.read_text() for path in folder.glob("*.begin*")))
    return [int(path.read_text().split()[1]) for path in folder.glob("*.begin*")]


def ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("number,to_all", [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_a_signal_saves_all_and_ends_with_its_number(number, to_all, tmp_path):
    """A terminal sends SIGINT to the workers, too."""
    process = stage(tmp_path, "a train", "b train", "c train")
    (os.killpg if to_all else os.kill)(process.pid, number)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == 128 + number and said == "imix: stage: stopped; run it again to continue\n"
    assert {path.name for path in tmp_path.glob("*.saved")} == {"a.saved", "b.saved"}
    assert not list(tmp_path.glob("c.*"))


def test_a_signal_ends_what_cannot_save_and_what_waits(tmp_path):
    with store.claimed(store.entry("trainings", "a" * 24), "mine"):
        process = stage(tmp_path, "a nap 60", "b wait_for")
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=20)[1]
    assert process.returncode == 128 + signal.SIGTERM and not list(tmp_path.glob("*.end"))
    assert said.splitlines()[-1] == "imix: stage: stopped; run it again to continue"


def test_a_second_signal_ends_all_at_once(tmp_path):
    process = stage(tmp_path, "a train 2 30", "b nap 60")  # a looks for signals every half a minute
    workers, began = pids(tmp_path), time.monotonic()
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None  # waits for a
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGINT and time.monotonic() - began < 10 and all(map(ended, workers))
    assert not list(tmp_path.glob("*.saved"))


def test_workers_save_and_end_when_the_parent_is_killed(tmp_path):
    with store.claimed(store.entry("trainings", "a" * 24), "mine"):
        process = stage(tmp_path, "a train", "b wait_for")
        workers = pids(tmp_path)
        process.kill()
        process.wait()
        until(lambda: all(map(ended, workers)), 5)
    assert (tmp_path / "a.saved").exists() and not (tmp_path / "b.end").exists()
    process.stderr.close()


def test_an_evaluation_ends_when_the_parent_is_killed(tmp_path):
    process = stage(tmp_path, "a nap 60", "b nap 60")
    workers = pids(tmp_path)
    process.kill()
    process.wait()
    until(lambda: all(map(ended, workers)), 5)
    process.stderr.close()


# the display


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets, in a list."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_what_the_store_had_does_not_shorten_the_time_left(clock):
    with progress.Display("stage", 10) as display:
        for number in range(5):
            display.begin(number, "a")
            display.update(number, 1, 1, "from the store")
            clock[0] += 0.1
            display.end(number)
        assert display.seconds_left() != display.seconds_left()  # not known
        display.begin(5, "b")
        display.update(5, 0, 100, "")
        clock[0] += 10
        display.update(5, 50, 100, "")
        assert display.seconds_left() == pytest.approx(10 + 4 * 20)
        clock[0] += 10
        display.end(5)
        assert display.seconds_left() == pytest.approx(80)


def test_a_continued_training_counts_as_what_was_left_of_it(clock):
    with progress.Display("stage", 3) as display:
        display.begin(0, "a")
        display.update(0, 90, 100, "")
        clock[0] += 10
        display.update(0, 100, 100, "")
        display.end(0)
        assert display.seconds_left() == pytest.approx(200)  # a tenth took 10 seconds


def test_time_left_knows_of_work_side_by_side_and_of_the_longest(clock):
    with progress.Display("stage", 4) as display:
        for number in (0, 1):
            display.begin(number, "a")
            display.update(number, 0, 100, "")
        clock[0] += 10
        display.update(0, 50, 100, ""), display.update(1, 50, 100, "")
        assert display.seconds_left() == pytest.approx((10 + 10 + 20 + 20) / 2)
        clock[0] += 10
        display.end(0), display.end(1)
        display.begin(2, "b"), display.begin(3, "b")
        display.update(2, 0, 100, ""), display.update(3, 0, 100, "")
        clock[0] += 18
        display.update(2, 90, 100, ""), display.update(3, 90, 100, "")
        clock[0] += 2
        display.end(2)
        assert 0 < display.seconds_left() < 4


def test_work_without_items_goes_by_the_clock(clock):
    with progress.Display("stage", 3) as display:
        display.begin(0, "a")
        clock[0] += 60
        display.end(0)
        display.begin(1, "b")
        clock[0] += 45
        assert display.seconds_left() == pytest.approx(15 + 60)
        clock[0] += 100
        assert display.seconds_left() == pytest.approx(60)


def test_lines_come_also_inside_a_long_epoch_and_an_evaluation(clock, capsys):
    with progress.Display("stage", 3) as display:
        display.begin(0, "a"), display.begin(1, "b")
        display.update(0, 0, 1000, "epoch 1/2")
        for _ in range(121):  # a minute of half seconds, with nothing new
            clock[0] += 0.5
            display.update(0, int(clock[0] - 1000), 1000, "epoch 1/2")
            display.tick()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6 and lines[0].startswith("a: epoch 1/2, 1 items/s, 16:") and lines[0].endswith(" left")
    assert lines[1] == "b: starting, 00:29 so far" and lines[4] == "b: starting, 00:58 so far"
    assert re.fullmatch(r"stage: 0 of 3 done, about [0-9:]+ left", lines[2])


def test_lines_come_from_workers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.6)
    run(task("a", "train", tmp_path, "a", 50), task("b", "nap", tmp_path, "b", 1.5))
    said = capsys.readouterr().err
    assert re.search(r"^a: epoch \d/5, \d+ items/s, [0-9:]+ left$", said, re.MULTILINE)
    assert re.search(r"^b: starting, 00:0\d so far$", said, re.MULTILINE) and "stage: 0 of 2 done" in said


def screen(folder, *asked):
    """Run a stage on a terminal; return all that it wrote there."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen([sys.executable, "-m", "tests.tasks", str(folder), *asked], stderr=slave, stdin=slave)
    os.close(slave)
    said = b""
    while select.select([master], [], [], 60)[0]:
        try:
            said += os.read(master, 65536)
        except OSError:  # noqa: PERF203 - the process has ended
            break
    os.close(master)
    assert process.wait() == 0, said.decode()
    return said.decode()


def test_bars_on_a_terminal(tmp_path):
    said = screen(tmp_path, "alpha train 60 0.05", "beta train 50 0.05", "gamma nap 1")
    assert "stage: 0 of 3 done [" in said and "stage: 2 of 3 done [" in said and "about 00:0" in said
    lines = [line for line in re.split(r"[\r\n]|\x1b\[A", said) if line.strip()]
    assert all(len(line) <= 100 for line in lines)
    for name in ("alpha", "beta"):
        assert any(re.match(rf"{name}: +\d+%\|.*/[56]0 \[.*epoch \d/[56]\]", line) for line in lines), said
    assert any(line.startswith("gamma [00:0") for line in lines)
    # alpha and beta are on lines of their own: beta's is reached by two line feeds
    assert re.search(r"\r\n\r\n\rbeta", said)


# the jobs


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A folder with the tensors of a tiny data set; returns the arguments of a training and of an evaluation."""
    rows, parts = test_pretraining.dataset(), ("fit", "validation", "test")
    folder = tmp_path / "run" / paths.tensors("tiny")
    folder.mkdir(parents=True)
    tensors = {"mean": rows.mean, "std": rows.std, "background": rows.background}
    for part, name in zip(parts, ("train", "validation", "test"), strict=True):
        tensors |= {name: getattr(rows, part).contiguous(), f"{name}_labels": getattr(rows, f"{part}_labels")}
    save_file(tensors, folder / "tensors.safetensors")
    facts = {key: getattr(rows, key) for key in ("kind", "classes", "carved", "column_groups", "numbers")}
    files.write_json(folder / "card.json", facts | {"sha256": files.sha256(folder / "tensors.safetensors")})
    monkeypatch.chdir(tmp_path / "run")
    monkeypatch.setenv("IMIX_STORE", ".imix")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the workers start in this folder
    trains = test_pretraining.settings("npair", epochs=2).model_dump()
    domain = {"kind": "tabular", "encoder": trains["encoder"], "views": trains["views"]}
    return trains, {"probe": test_pretraining.PROBE.model_dump(), **domain}


def outs():
    return {str(path): path.read_bytes() for path in sorted(Path("data").rglob("*")) if path.is_file()}


def pretrain(trains, seeds=(0, 1)):
    asked = [running.Task(f"{CELL} seed {seed}", "imix.jobs:train", (CELL, trains, "code", seed)) for seed in seeds]
    running.run("pretrain", asked, PRELOAD)


def test_results_are_the_same_with_one_worker_or_two_trained_now_or_from_the_store(tiny, fresh_workers):
    trains, evaluates = tiny
    for seed in (0, 1):  # one after the other, in this process
        jobs.train(0, progress.silent, CELL, trains, "code", seed)
        encoder, target = paths.encoders(CELL) / f"{seed}.safetensors", paths.metrics(CELL) / f"{seed}.json"
        jobs.evaluate(0, progress.silent, encoder, "tiny", evaluates, "code", seed, target)
    jobs.baseline(0, progress.silent, "untrained", "tiny", evaluates, "code", 0, paths.baseline("tiny") / "0.json")
    first = outs()
    assert len(first) == 2 + 4 + 2 + 1
    Path(".imix").rename("first")
    for _ in range(2):  # by two workers: trained, then from the store
        for path in list(first)[:4]:
            Path(path).unlink(missing_ok=True)
        pretrain(trains)
        assert outs() == first
    record = json.loads(Path(".imix/records", f"{json.loads(first[str(target)])['encoder']}.json").read_text())
    assert {"label", "seconds", "device", "processor", "threads", "torch", "git", "started"} <= record.keys()
    assert record["label"] == f"{CELL} seed 1" and record["threads"] == 1 and record["seconds"] > 0
    assert len(list(Path(".imix/trainings").iterdir())) == 2


def test_an_ablation_takes_the_grids_training_from_the_store(tiny, monkeypatch):
    trains, evaluates = tiny
    jobs.train(0, progress.silent, CELL, trains, "code", 0)
    monkeypatch.setattr(jobs.pretraining, "Training", None)  # trains no more
    both = {"settings": trains, "code": "code"}, {"settings": evaluates, "code": "code"}
    heard = []
    jobs.variant(0, lambda *report: heard.append(report), CELL, "unchanged", *both, 0, Path("data/ablations"))
    found = json.loads(Path("data/ablations", paths.variant(CELL, "unchanged", 0)).read_text())
    assert found["size"]["rows"] == 200 and found["settings"] == trains and found["metrics"]["knn_accuracy"] > 25
    history = Path("data/ablations", paths.variant(CELL, "unchanged", 0)).with_suffix(".csv")
    assert history.read_bytes() == (paths.histories(CELL) / "0.csv").read_bytes()
    assert heard == [(1, 1, "from the store"), (0, 0, "evaluating")]


def interrupted(trains, monkeypatch, number=signal.SIGTERM, step=7):
    """Send a signal to this process in the middle of a training."""
    made = jobs.pretraining.Training

    def training(*args):
        return test_pretraining.interrupt(made(*args), step, lambda: os.kill(os.getpid(), number))

    monkeypatch.setattr(jobs.pretraining, "Training", training)
    with pytest.raises(Stopped, match="run it again to continue") as stopped:
        jobs.train(0, progress.silent, CELL, trains, "code", 0)
    monkeypatch.setattr(jobs.pretraining, "Training", made)
    assert stopped.value.signal == number


def test_a_continued_training_keeps_the_commit_and_time_of_its_start(tiny, monkeypatch):
    trains, _ = tiny
    monkeypatch.setattr(store, "git_revision", lambda: "first")
    interrupted(trains, monkeypatch)
    ((work, *_),) = store.entries()
    began = store.load_state(work)[1]["began"]
    monkeypatch.setattr(store, "git_revision", lambda: "second")
    jobs.train(0, progress.silent, CELL, trains, "code", 0)
    (record,) = (json.loads(path.read_text()) for path in Path(".imix/records").iterdir())
    assert began["git"] == "first" and record | began == record
    assert json.loads((work.folder / "about.json").read_text()) == record


def test_a_history_grows_while_its_training_runs(tiny):
    trains, _ = tiny
    seen, history = [], paths.histories(CELL) / "0.csv"
    watch = lambda done, total, text: seen.append(history.read_text() if history.exists() else "")
    jobs.train(0, watch, CELL, trains, "code", 0)
    final = history.read_text()
    assert seen[0] == "" and seen[-1] == final and all(final.startswith(text) for text in seen)
    assert {text.count("\n") for text in seen} == {0, *range(2, trains["epochs"] + 2)}  # a head, and a line per epoch


def test_a_signal_after_the_last_step_keeps_the_training(tiny, monkeypatch):
    trains, _ = tiny
    keep = jobs._keep

    def ended(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        keep(*args)

    monkeypatch.setattr(jobs, "_keep", ended)
    with pytest.raises(Stopped, match="stopped after the last epoch"):
        jobs.train(0, progress.silent, CELL, trains, "code", 0)
    ((work, *_),) = store.entries()
    assert work.finished() and not outs().keys() & {str(paths.encoders(CELL) / "0.safetensors")}


def test_a_store_that_is_pruned_while_a_training_is_read_keeps_it(tiny):
    trains, _ = tiny
    jobs.train(0, progress.silent, CELL, trains, "code", 0)
    prune = "from imix import store; print(store.prune(limit=0))"
    rows = dataset.load(paths.tensors("tiny"), torch.device("cpu"))
    with jobs.trained(CELL, trains, "code", 0, rows, progress.silent) as done:
        said = subprocess.run([sys.executable, "-c", prune], capture_output=True, text=True).stdout
        assert said == "0\n" and done.encoder.read_bytes()
    assert store.prune(limit=0) == 1


def test_a_damaged_result_is_refused_and_a_nonsense_store_before_training(tiny, monkeypatch):
    trains, _ = tiny
    jobs.train(0, progress.silent, CELL, trains, "code", 0)
    ((work, *_),) = store.entries()
    (work.folder / "history.csv").write_text("")
    with pytest.raises(UserError, match=r"history.csv: damaged; remove .* to do this work again"):
        jobs.train(0, progress.silent, CELL, trains, "code", 0)
    monkeypatch.setenv("IMIX_STORE_GB", "much")
    monkeypatch.setattr(jobs.pretraining, "Training", None)
    with pytest.raises(UserError, match="IMIX_STORE_GB = 'much'"):
        jobs.train(0, progress.silent, CELL, trains, "code", 1)


SECOND = """
import json, sys
from imix import errors, jobs, progress
from tests.test_running import CELL
errors.exit_cleanly(lambda: jobs.train(0, progress.silent, CELL, json.loads(sys.argv[1]), "code", 0))
"""


def test_a_second_process_at_the_same_training_waits_and_takes_the_result(tiny, monkeypatch):
    trains, _ = tiny
    made, others = jobs.pretraining.Training, []

    def training(*args):
        command = [sys.executable, "-c", SECOND, json.dumps(trains)]
        others.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        assert "another process is at this; waiting for it" in others[0].stderr.readline()
        return made(*args)

    monkeypatch.setattr(jobs.pretraining, "Training", training)
    jobs.train(0, progress.silent, CELL, trains, "code", 0)
    first = outs()
    for path in list(first)[:2]:
        assert path.endswith(("safetensors", "csv"))
    ((work, *_),) = store.entries()
    about = (work.folder / "about.json").read_bytes()
    assert others[0].communicate(timeout=60)[1] == "" and others[0].returncode == 0
    assert outs() == first and (work.folder / "about.json").read_bytes() == about
