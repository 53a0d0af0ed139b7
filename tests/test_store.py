"""The store: what it keeps, what it removes, what it refuses, and that one process at a time works on an entry."""

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest
import torch

from imix import store
from imix.errors import UserError
from imix.files import write_json
from tests import test_pretraining
from tests.test_pretraining import STEPS, interrupt

CONTENT = {"encoder.safetensors": b"weights", "history.csv": b"epoch,loss\n"}


def entry(letter="a", kind="trainings"):
    return store.entry(kind, letter * 24)


def finished(letter="a", size=0, used=0, kind="trainings"):
    """Keep some work that was last used at a time; an hour ago at the latest."""
    work = entry(letter, kind)
    store.finish(work, {"encoder.safetensors": bytes(size)}, {"label": letter})
    for path in work.folder.iterdir():
        os.utime(path, (used, used))
    return work


def kept():
    return {each.key[0] for each, *_ in store.entries()}


def test_results_come_back_and_the_state_goes():
    work = entry()
    store.save_state(work, {"x": torch.ones(3)}, {"epoch": 1})
    assert not work.finished() and work.state.exists()
    (work.folder / ".state.123.tmp").write_bytes(b"of a save that was killed")
    store.finish(work, CONTENT, {"label": "x"})
    assert work.finished() and {name: path.read_bytes() for name, path in store.results(work).items()} == CONTENT
    assert sorted(path.name for path in work.folder.iterdir()) == ["about.json", *sorted([*CONTENT, "result.json"])]


def test_using_a_result_makes_it_the_latest():
    old, new = finished("a", used=1000), finished("b", used=2000)
    assert [each for each, *_ in store.entries()] == [new, old]
    store.results(old)
    assert [each for each, *_ in store.entries()] == [old, new]


def test_a_store_that_can_only_be_read_gives_results(monkeypatch):
    work = finished()

    def refused(path, *args):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(os, "utime", refused)
    assert store.results(work)


@pytest.mark.parametrize(
    "name,content", [("history.csv", b"epoch,lass\n"), ("history.csv", None), ("result.json", b"{}")]
)
def test_a_damaged_result_is_refused(name, content):
    work = entry()
    store.finish(work, CONTENT, {})
    (work.folder / name).unlink() if content is None else (work.folder / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}.*remove {work.folder} to do this work again") as error:
        store.results(work)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"5", b"{", b"\xff", b'{"history.csv": 5}'])
def test_a_damaged_list_of_results_is_refused(content):
    work = entry()
    store.finish(work, CONTENT, {})
    (work.folder / "result.json").write_bytes(content)
    with pytest.raises(UserError, match=f"remove {work.folder} to do this work again"):
        store.results(work)


def test_a_damaged_state_is_refused():
    work = entry()
    store.save_state(work, {"x": torch.arange(1000)}, {"epoch": 1})
    whole = work.state.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content in (b"", b"nothing that was saved", whole[:-1], whole[: len(whole) // 2], bytes(flipped)):
        work.state.write_bytes(content)
        with pytest.raises(UserError, match=r"state: damaged, .*; remove it to train from the start$"):
            store.load_state(work)
    work.state.write_bytes(whole)
    assert store.load_state(work)[1] == {"epoch": 1}
    work.state.unlink()
    assert store.load_state(work) is None
    work.state.mkdir()
    with pytest.raises(UserError, match="state: cannot be read"):
        store.load_state(work)


def test_those_used_longest_ago_are_removed_first():
    for number, letter in enumerate("abcdef"):
        finished(letter, size=1000, used=1000 * (number + 1))
    before = sum(size for *_, size in store.entries())
    assert store.prune(limit=before) == 0 and kept() == set("abcdef")
    assert store.prune(limit=before // 2) == 3 and kept() == set("def")
    assert sorted(path.name[0] for path in (store.root() / "trainings").iterdir()) == ["d", "e", "f"]


def test_an_old_small_entry_goes_before_a_later_large_one():
    finished("a", size=10, used=1000)
    finished("b", size=6000, used=2000)
    finished("c", size=6000, used=3000)
    assert store.prune(limit=sum(size for *_, size in store.entries()) - 1) == 1
    assert kept() == {"b", "c"}


def test_the_one_kept_stays_however_large_it_is(monkeypatch):
    monkeypatch.setenv("IMIX_STORE_GB", "0.001")
    finished("a", size=600_000, used=1000)
    finished("b", size=600_000, used=2000)  # prunes as every finish does
    assert kept() == {"b"}
    finished("c", size=2_000_000)
    assert kept() == {"c"}


def test_evaluations_are_pruned_alike():
    finished("a", used=1000), finished("b", used=2000, kind="evaluations"), finished("c", used=3000)
    assert store.prune(limit=sum(size for *_, size in store.entries()) - 1) == 1 and kept() == {"b", "c"}
    assert store.prune(limit=1) == 2


def test_what_this_process_works_on_is_not_pruned():
    one, two = finished("a", used=1000), finished("b", used=2000)
    with store.claimed(one, "x"):
        assert store.prune(limit=0) == 1 and kept() == {"a"}
        assert store.results(one)
    assert not two.finished() and store.prune(limit=0) == 1


HOLD = """
import sys, time
from imix import store
with store.claimed(store.entry("trainings", "a" * 24), "other"):
    print("on", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder():
    """Another process that has claimed entry a, until it is killed or gets a line."""
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "on\n"
    yield process
    process.kill()
    process.communicate()


def test_what_another_process_works_on_is_neither_pruned_nor_taken(holder, monkeypatch, capsys):
    work = finished("a", used=1000)
    finished("b", used=2000)
    assert store.prune(limit=0) == 1 and kept() == {"a"}
    with store.claimed(entry("b"), "free"):
        pass
    monkeypatch.setattr(store, "WAIT", 0.05)
    threading.Timer(0.4, holder.kill).start()  # the lock goes with the process, however it ends
    began = time.monotonic()
    with store.claimed(work, "mine"):
        assert time.monotonic() - began > 0.3
    assert capsys.readouterr().err == "imix: mine: another process is at this; waiting for it\n"


def test_a_process_that_waits_can_be_ended(holder):
    code = HOLD.replace('print("on"', 'print("got it"')
    waiting = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "waiting for it" in waiting.stderr.readline()
    waiting.send_signal(signal.SIGTERM)
    assert waiting.wait(5) == -signal.SIGTERM
    waiting.communicate()


FOREIGN = (".DS_Store", ".nfs0001", "notes.txt", "a folder/file")


def test_foreign_files_block_nothing_and_are_never_removed():
    places = [store.root(), store.root() / "trainings", store.root() / "evaluations", entry().folder]
    finished(used=1000)
    finished("b", used=2000)
    foreign = [place / name for place in places for name in FOREIGN]
    (store.root() / "trainings" / ("f" * 24)).write_text("a file by the name of an entry")
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    assert [each.key[0] for each, *_ in store.entries()] == ["b", "a"]
    assert all(size < 1000 for *_, size in store.entries()) and store.results(entry())
    assert store.prune(limit=0) == 2 and store.prune(limit=0) == 0
    assert all(path.read_text() == "mine" for path in foreign) and not entry("b").folder.exists()
    assert kept() == set() and not entry().finished()
    store.finish(entry(), CONTENT, {})
    assert store.results(entry())


def test_folders_of_the_store_may_be_files():
    store.root().mkdir()
    (store.root() / "trainings").write_text("")
    assert store.entries() == [] and store.prune(limit=0) == 0


def test_entries_may_go_while_they_are_listed(monkeypatch):
    finished("a", used=1000), finished("b", used=2000)
    listed = store._listed

    def slow(folder):
        found = listed(folder)
        if folder.name == "trainings":
            for path in (store.root() / "trainings" / ("a" * 24)).iterdir():
                path.unlink()
            (store.root() / "trainings" / ("a" * 24)).rmdir()
        return found

    monkeypatch.setattr(store, "_listed", slow)
    assert [each.key[0] for each, *_ in store.entries()] == ["b"]


@pytest.mark.parametrize(
    "variable,value,call",
    [
        ("IMIX_STORE_GB", "much", store.bound),
        ("IMIX_STORE_GB", "0", store.bound),
        ("IMIX_STORE_GB", "-1", store.bound),
        ("IMIX_STORE_GB", "nan", store.bound),
        ("IMIX_STORE_GB", "inf", store.bound),
        ("IMIX_SAVE_SECONDS", "often", store.save_seconds),
        ("IMIX_SAVE_SECONDS", "-1", store.save_seconds),
        ("IMIX_SAVE_SECONDS", "nan", store.save_seconds),
    ],
)
def test_nonsense_in_the_environment_is_refused_before_the_work(variable, value, call, monkeypatch):
    monkeypatch.setenv(variable, value)
    for check in (call, lambda: store.prepare(entry())):
        with pytest.raises(UserError, match=rf"^{variable} = '{value}': must be a number from [0-9.]+ to 1e9$"):
            check()
    monkeypatch.setenv(variable, "")
    call()


def test_a_store_that_cannot_be_is_refused_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("IMIX_STORE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"IMIX_STORE = .*file': must be a folder"):
        store.entry("trainings", "a" * 24)
    monkeypatch.setenv("IMIX_STORE", str(tmp_path / "file" / "below"))
    with pytest.raises(UserError, match=r"below/trainings/a+: cannot be written .*; set IMIX_STORE to a folder"):
        store.prepare(entry())
    monkeypatch.delenv("IMIX_STORE")
    assert store.root().name == ".imix"


def test_a_store_that_is_not_ours_to_write_is_refused_and_not_waited_for(monkeypatch, capsys):
    store.root().mkdir(parents=True)
    store.root().chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.access(store.root(), os.W_OK):  # root writes anywhere
        monkeypatch.setattr(os, "access", lambda *args: False)
        monkeypatch.setattr(store, "_open_lock", no_lock(PermissionError(errno.EACCES, "Permission denied")))
    with store.claimed(entry(), "x"), pytest.raises(UserError, match=r"cannot be written .*set IMIX_STORE"):
        store.prepare(entry())
    assert "cannot be locked" in capsys.readouterr().err
    store.root().chmod(stat.S_IRWXU)


def no_lock(error):
    def fails(*args):
        raise error

    return fails


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_file_systems_without_locks_give_one_warning(code, monkeypatch, capsys):
    monkeypatch.setattr(fcntl, "lockf", no_lock(OSError(code, os.strerror(code))))
    for letter in "ab":
        with store.claimed(entry(letter), letter):
            finished(letter, used=1000)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith(f"imix: warning: {store.root()}: cannot be locked (")
    assert store.prune(limit=0) == 2


def test_a_lock_that_another_process_has_may_be_refused_as_forbidden(monkeypatch):
    """EACCES: POSIX lets a system answer so to a lock that is taken."""
    monkeypatch.setattr(fcntl, "lockf", no_lock(PermissionError(errno.EACCES, "Permission denied")))
    assert store._fcntl(entry()) is False


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_costs_the_save_not_the_training(monkeypatch, capsys):
    work, whole = entry(), test_pretraining.train("npair", epochs=3)
    training = interrupt(test_pretraining.new("npair", epochs=3), STEPS, lambda: monkeypatch.setattr(os, "fsync", full))
    test_pretraining.run(training, work)
    test_pretraining.assert_same(training, whole)
    said = capsys.readouterr().err
    assert said.count("state: not saved ([Errno 28] No space left on device); the training goes on") == 2 * STEPS
    assert store.load_state(work)[1]["epoch"] == 1  # the last that was saved is whole
    assert [path.name for path in work.folder.iterdir()] == ["state"]


def test_two_that_finish_the_same_at_once_both_do():
    works = [threading.Thread(target=lambda: [store.finish(entry(), CONTENT, {"n": 1}) for _ in range(20)])]
    code = f"""
from imix import store
for _ in range(20):
    store.finish(store.entry("trainings", "a" * 24), {CONTENT}, {{"n": 2}})
"""
    other = subprocess.Popen([sys.executable, "-c", code])
    works[0].start()
    works[0].join()
    assert other.wait(30) == 0 and {name: path.read_bytes() for name, path in store.results(entry()).items()} == CONTENT


def test_work_that_was_killed_while_it_was_kept_is_unfinished():
    work = entry()
    write_json(work.folder / "about.json", {})
    (work.folder / "encoder.safetensors").write_bytes(b"weights")
    assert not work.finished() and kept() == {"a"} and store.prune(limit=0) == 1 and not work.folder.exists()


def git(folder, *command):
    own = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *own, *command], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    store.git_revision.cache_clear()
    folder = tmp_path / "repository"
    (folder / "imix").mkdir(parents=True)
    (folder / "imix" / "a.py").write_text("1\n")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "one")
    yield folder
    store.git_revision.cache_clear()


def test_the_revision_is_the_commit(repository, tmp_path):
    revision = store.git_revision(repository)
    assert len(revision) == 40 and int(revision, 16)
    (repository / "notes.txt").write_text("")  # no code
    store.git_revision.cache_clear()
    assert store.git_revision(repository) == revision
    (repository / "imix" / "a.py").write_text("2\n")
    store.git_revision.cache_clear()
    assert store.git_revision(repository) == f"{revision}+changes"


def test_a_revision_that_is_unknown_says_why_once(repository, tmp_path, monkeypatch, capsys):
    outside = tmp_path / "outside"
    outside.mkdir()
    assert store.git_revision(outside) == "unknown" and capsys.readouterr().err == ""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own tests set it for a folder of another user's
    assert [store.git_revision(repository) for _ in range(3)] == ["unknown"] * 3
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "dubious ownership" in said and "recorded as unknown" in said
    store.git_revision.cache_clear()
    monkeypatch.setenv("PATH", "")
    assert store.git_revision(repository) == "unknown"
