"""Nothing lost, nothing of the user's removed, nothing executed that is data."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from imix import checkpoints, paths
from imix.dataset import load
from imix.errors import UserError
from imix.settings import text
from imix.sources import check_checksums, write_checksums
from stages import arguments
from tests import clones
from tests.conftest import ROOT

CELL = ["--dataset", "diamonds", "--augmentation", "clean", "--method", "moco", "--mix", "imix"]
AGAIN = ("settings", "fetch@diamonds", "preprocess@diamonds", "pretrain@diamonds-clean-moco-imix",
    "evaluate@diamonds-clean-moco-imix", "supervised@diamonds-clean-none", "baseline@diamonds",
    "ablate@contrast-diamonds", "report@clone", "report_ablation@clone-contrast", "project@clone-diamonds")  # fmt: skip
PLACES = ("reports", "reports/clone", "reports/clone/ablations", "reports/clone/projections", "data", ".imix",
    ".imix/trainings")  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return clones.studied(tmp_path_factory.getbasetemp())[0]


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A clone whose trainings last until they are stopped, ready to train."""
    folder = clones.clone(tmp_path_factory.mktemp("long") / "clone", 4000, {"seeds": [0, 1]})
    clones.run(folder, "dvc", "repro", "preprocess@diamonds")
    return folder


def test_all_again_changes_no_byte_and_removes_nothing_of_the_users(study):
    """A stage of every kind; notes and a notebook's folder, wherever they do not make a stage stale."""
    for place in PLACES:
        (study / place / ".ipynb_checkpoints").mkdir(parents=True, exist_ok=True)
        for name in ("notes.md", ".ipynb_checkpoints/notes.md"):
            (study / place / name).write_text(place)
    before = clones.contents(study, clones.outs(study))
    clones.run(study, "dvc", "repro", "-f", "-s", *AGAIN)
    assert clones.contents(study, clones.outs(study)) == before
    changed = [line for line in clones.git(study, "status", "--porcelain").splitlines() if not line.startswith("??")]
    assert {*changed} <= {" M reports/clone/cost.json", " M reports/clone/cost.js"}
    for place in PLACES:
        for name in ("notes.md", ".ipynb_checkpoints/notes.md"):
            assert (study / place / name).read_text() == place
            (study / place / name).unlink()
        (study / place / ".ipynb_checkpoints").rmdir()


def start(folder, **variables):
    command = [sys.executable, "-m", "stages.pretrain", *CELL]
    environment = clones.environment(folder) | {"IMIX_SAVE_SECONDS": "0.1"} | variables
    return subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def states(folder):
    return list((folder / ".imix/trainings").glob("*/state"))


def wait_until(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("number,code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_is_one_line(long, number, code):
    shutil.rmtree(long / ".imix", ignore_errors=True)  # states of another test would not wait for this process
    process = start(long, IMIX_WORKERS="2")
    wait_until(lambda: len(states(long)) == 2)
    process.send_signal(number)
    said = process.communicate()[1].splitlines()
    assert process.returncode == code and len(said) == 2 and len(states(long)) == 2
    assert re.fullmatch(r"imix: pretrain diamonds clean moco imix: stopped; run it again to continue", said[-1])


def test_a_second_process_waits_for_the_first(long):
    shutil.rmtree(long / ".imix", ignore_errors=True)
    first = start(long, IMIX_WORKERS="1")
    wait_until(lambda: states(long))
    second = start(long, IMIX_WORKERS="1")
    assert "seeds" in second.stderr.readline()
    assert "another process is at this; waiting for it" in second.stderr.readline()
    for process in (first, second):
        process.send_signal(signal.SIGTERM)
    for process in (first, second):
        process.communicate()


def test_killed_and_continued_is_the_same_bytes(long, tmp_path):
    folder, cell = tmp_path / "clone", paths.Cell("diamonds", "clean", "moco", "imix")
    shutil.copytree(long, folder, symlinks=True, ignore=shutil.ignore_patterns(".imix"))
    settings, out = folder / paths.SETTINGS / cell.path.with_suffix(".json"), paths.encoders(cell)
    assert settings.read_text().count('"epochs": 4000') == 1
    settings.write_text(settings.read_text().replace('"epochs": 4000', '"epochs": 40'))
    clones.run(folder, sys.executable, "-m", "stages.pretrain", *CELL, IMIX_STORE="another")
    expected = clones.contents(folder, [str(out)])
    process = start(folder, IMIX_WORKERS="2", IMIX_SAVE_SECONDS="0")
    wait_until(lambda: states(folder))
    clones.kill_session(process.pid)
    process.communicate()
    (folder / out / "0.safetensors").unlink()
    assert states(folder) and not clones.trainings(folder)
    clones.run(folder, sys.executable, "-m", "stages.pretrain", *CELL)
    assert clones.contents(folder, [str(out)]) == expected and not states(folder)


# ruff's rules, whatever pyproject.toml leaves out: private names of other packages; exec, eval, tarfile's extractall;
# pickle, marshal, shelve, dill, also their import; YAML that makes objects; a shell
RULES = "SLF,S102,S307,S202,S301,S302,S403,S506,S602,S604,S605"
BAD = """
import os, pickle, tarfile, yaml
pickle.loads(b""), eval("1"), exec("1"), yaml.load("", yaml.Loader), os.system("ls"), yaml.x._y
def extract(path): tarfile.open(path).extractall()
"""
# what ruff has no rule for
FORBIDDEN = r"torch\.(load|save)\(|to_pickle|allow_pickle|joblib|(?<![\w.])(compile|__import__)\(|unpack_archive"


def ruff(*arguments, **more):
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--preview", "--select", RULES, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **more)


def test_no_data_becomes_code():
    done = ruff("imix", "stages")
    assert done.returncode == 0, done.stdout + done.stderr
    for path in [*(ROOT / "imix").rglob("*.py"), *(ROOT / "stages").rglob("*.py")]:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not re.search(FORBIDDEN, line), f"{path}:{number}: {line.strip()}"


def test_ruff_sees_data_that_becomes_code():
    found = {each["code"] for each in json.loads(ruff("--output-format", "json", "-", input=BAD).stdout)}
    assert found == {"SLF001", "S102", "S307", "S202", "S301", "S403", "S506", "S605"}


def test_the_loader_of_parameters_makes_no_objects():
    for tag in ("!!python/name:os.system", "!!python/object/apply:os.getcwd []"):
        with pytest.raises(UserError, match="tag"):
            text.parse(tag, "x")


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", ".", "", "a b", "A", "x\n"])
def test_a_name_is_never_a_path(name, monkeypatch):
    for others in ([], ["--method", "npair", "--mix", "imix"]):
        monkeypatch.setattr(sys, "argv", ["stage", "--dataset", name, *others])
        with pytest.raises(UserError, match=r"--dataset = .*: must be a name"):
            arguments("", "dataset", *(word[2:] for word in others[::2]))


def test_a_raw_file_replaced_after_fetching_is_refused(tmp_path):
    for name in ("a.csv", "b.bin"):
        (tmp_path / name).write_bytes(name.encode())
    write_checksums(tmp_path)
    write_checksums(tmp_path)
    check_checksums(tmp_path)
    for content in (b"", b"B.bin", b"b.bin\n"):
        (tmp_path / "b.bin").write_bytes(content)
        with pytest.raises(UserError, match=r"b\.bin: not the file that was fetched; run `dvc repro -f fetch`"):
            check_checksums(tmp_path)
    (tmp_path / "b.bin").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        check_checksums(tmp_path)


def test_a_damaged_encoder_is_refused_wherever_it_is_damaged(study, tmp_path):
    rows, path = load(study / "data/diamonds/tensors", torch.device("cpu")), tmp_path / "encoder.safetensors"
    whole = (study / paths.encoders(paths.Cell("diamonds", "clean", "moco", "imix")) / "0.safetensors").read_bytes()
    path.write_bytes(whole)
    encoder, sha256 = checkpoints.load(path, rows)
    assert checkpoints.weights_sha256(encoder.state_dict()) == sha256
    for place in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(UserError, match=r"encoder.safetensors: (not an encoder|damaged)"):
            checkpoints.load(path, rows)
        path.write_bytes(whole[:place])
        with pytest.raises(UserError, match="not an encoder"):
            checkpoints.load(path, rows)
