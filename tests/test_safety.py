"""Nothing lost, nothing silently wrong: cells of every method and domain run twice, are killed, and execute no data."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml

from imix import checkpoints
from imix.datasets import check_checksums, write_checksums
from imix.errors import UserError
from imix.planning import done
from imix.settings import Domain, text
from stages import arguments
from tests import clones
from tests.conftest import ROOT
from tests.test_pretraining import dataset, new

# every domain, every method
CELLS = [("mnist", "npair", "imix"), ("segment", "moco", "imix"), ("spoken", "byol", "imix"), ("segment", "supervised", "none")]
SMALL = {
    "mnist": {"rows": {"train": 250, "validation": 0.2, "test": 50, "canvas": 28, "seed": 0}},
    "spoken": {"source": {"name": "spoken", "seed": 0, "voices": {"train": 8, "validation": 2, "test": 2}, "words": 11}},
}

# all stages of all cells in one process, which loads torch once; every class that an unpickler looks up is written down
DRIVER = """
import json, runpy, sys
from pathlib import Path
sys.path.insert(0, "")
looked_up = []
sys.addaudithook(lambda event, args: looked_up.append(args) if event == "pickle.find_class" else None)
def stage(name, **identity):
    sys.argv = [name, *(word for key, value in identity.items() for word in (f"--{key}", str(value)))]
    runpy.run_module(f"stages.{name}", run_name="__main__")
cells = json.loads(sys.argv[1])
stage("settings")
for data in sorted({data for data, _, _ in cells}):
    if not Path(f"data/{data}/tensors/card.json").exists():
        stage("fetch", dataset=data)
        stage("preprocess", dataset=data)
for data, method, mix in cells:
    cell = dict(dataset=data, method=method, mix=mix)
    if not Path(f"data/metrics/{data}/{method}/{mix}/0.json").exists():
        stage("pretrain", **cell, seed=0)
        stage("evaluate", **cell)
Path("looked_up.json").write_text(json.dumps(list(map(str, looked_up))))
"""


def small(folder):
    """A clone whose data sets are a handful of rows and whose trainings take seconds."""
    grid = {"datasets": ["mnist", "segment", "spoken"], "methods": ["npair", "moco", "byol"], "mixes": ["imix"], "seeds": [0]}
    return clones.clone(folder, grid, epochs=2, data=SMALL)


def drive(folder, **environment):
    command = [sys.executable, "-c", DRIVER, json.dumps(CELLS)]
    return subprocess.Popen(command, cwd=folder, env=clones.ENVIRONMENT | environment, stderr=subprocess.PIPE, text=True)


def finished(process):
    said = process.communicate()[1]
    assert process.returncode == 0, said
    return said


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    folder = small(tmp_path_factory.mktemp("cells") / "clone")
    finished(drive(folder))
    return folder


def test_killed_in_every_cell_and_the_same_bytes(cells, tmp_path):
    """A second clone, killed where each cell has just saved a state: raw files, tensors, encoders, histories, metrics."""
    folder, killed = small(tmp_path / "clone"), 0
    for data, method, _ in CELLS:
        process = drive(folder, IMIX_SAVE_SECONDS="0")
        while process.poll() is None and not list((folder / ".resume").glob(f"*.{data}-{method}-*.state")):
            time.sleep(0.001)
        process.kill()
        process.communicate()
        killed += process.returncode != 0
    said = finished(drive(folder, IMIX_SAVE_SECONDS="0"))
    assert killed == len(CELLS) and "pretrain segment supervised none 0: continuing after epoch" in said
    paths = ["data/mnist", "data/segment", "data/spoken", "data/encoders", "data/trainings", "data/metrics", "data/settings"]
    one, two = clones.contents(cells, paths), clones.contents(folder, paths)
    assert one == two and len([path for path in one if path.startswith("data/encoders")]) == len(CELLS)
    assert not [path.name for path in (folder / ".resume").iterdir() if path.suffix in (".state", ".done")]


def test_no_class_is_looked_up_by_an_unpickler(cells):
    assert json.loads((cells / "looked_up.json").read_text()) == []


FORBIDDEN = {
    r"\bimport (pickle|cPickle|dill|joblib|shelve|marshal)\b|from (pickle|dill|joblib|shelve|marshal) ": "pickles",
    r"torch\.(load|save)\(|read_pickle|to_pickle|allow_pickle": "pickles",
    r"yaml\.((unsafe_|full_)?load_all|unsafe_load|full_load|load\((?!.*, Loader\)))": "YAML that makes objects",
    r"(?<![\w.])(eval|exec|compile|__import__)\(": "code from text",
    r"\.extractall\(|\.extract\(|unpack_archive": "archives that write where they like",
    r"shell=True|os\.system|os\.popen": "a shell",
}


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_no_data_becomes_code(pattern):
    for path in [*(ROOT / "imix").rglob("*.py"), *(ROOT / "stages").rglob("*.py")]:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not re.search(pattern, line), f"{path}:{number}: {FORBIDDEN[pattern]}: {line.strip()}"


def test_the_loader_of_parameters_makes_no_objects():
    assert issubclass(text._Loader, yaml.SafeLoader) and done.Loader in (yaml.SafeLoader, getattr(yaml, "CSafeLoader", None))
    for tag in ("!!python/name:os.system", "!!python/object/apply:os.getcwd []"):
        with pytest.raises(UserError, match="tag"):
            text.parse(tag, "x")


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", ".", "", "a b", "A", "x\n"])
def test_a_name_is_never_a_path(name, monkeypatch):
    for others in ([], ["--method", "npair", "--mix", "imix", "--seed", "0"]):
        monkeypatch.setattr(sys, "argv", ["stage", "--dataset", name, *others])
        with pytest.raises(UserError, match=r"--dataset = .*: must be a name"):
            arguments("", "dataset", *(word[2:] for word in others[::2]))


def test_provenance_tells_machines_apart(cells):
    metrics = json.loads((cells / "data/metrics/segment/moco/imix/0.json").read_text())["machine"]
    provenance = json.loads((cells / "data/trainings/segment/moco/imix/0/provenance.json").read_text())
    assert metrics.keys() == {"device", "processor", "cpu_capability", "threads"} and metrics.items() <= provenance.items()
    assert provenance["threads"] == int(clones.ENVIRONMENT["IMIX_THREADS"]) and provenance["processor"]


def test_a_raw_file_replaced_after_fetching_is_refused(tmp_path):
    for name in ("a.csv", "b.bin"):
        (tmp_path / name).write_bytes(name.encode())
    write_checksums(tmp_path)
    write_checksums(tmp_path)
    check_checksums(tmp_path)
    for content in (b"", b"B.bin", b"b.bin\n"):
        (tmp_path / "b.bin").write_bytes(content)
        with pytest.raises(UserError, match=r"b\.bin: not the file that was fetched; `dvc repro -f fetch`"):
            check_checksums(tmp_path)
    (tmp_path / "b.bin").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        check_checksums(tmp_path)


def test_a_damaged_encoder_is_refused_wherever_it_is_damaged(tmp_path):
    encoder, path = new("npair").method.encoder, tmp_path / "encoder.safetensors"
    domain = Domain.model_validate({name: getattr(new("npair").settings, name) for name in ("encoder", "views")})
    checkpoints.save(encoder, domain, path)
    loaded, _ = checkpoints.load(path, dataset())
    assert all(torch.equal(a, b) for a, b in zip(encoder.state_dict().values(), loaded.state_dict().values(), strict=True))
    whole = path.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(UserError, match=r"encoder.safetensors: (not an encoder|damaged)"):
            checkpoints.load(path, dataset())
        path.write_bytes(whole[:place])
        with pytest.raises(UserError, match="not an encoder"):
            checkpoints.load(path, dataset())


def test_one_process_at_a_time_and_a_signal_is_one_line(cells):
    command = clones.stage(cells, "pretrain", dataset="segment", method="npair", mix="imix", seed=0)
    states, saving = cells / ".resume", clones.ENVIRONMENT | {"IMIX_SAVE_SECONDS": "0"}
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        first = subprocess.Popen(command, cwd=cells, env=saving, stderr=subprocess.PIPE, text=True)
        while first.poll() is None and not list(states.glob("*.segment-npair-*.state")):
            time.sleep(0.001)
        first.send_signal(signal.SIGSTOP)
        second = subprocess.run(command, cwd=cells, env=clones.ENVIRONMENT, capture_output=True, text=True)
        assert second.returncode == 1 and "imix: error: pretrain segment npair imix 0: another process is at this" in second.stderr
        first.send_signal(number)
        first.send_signal(signal.SIGCONT)
        last = first.communicate()[1].splitlines()[-1]
        assert first.returncode == code and re.fullmatch(r"imix: .*: stopped after epoch \d, step \d+; run it again to continue", last)
        kept = list(states.glob("*.segment-npair-*.state"))
        assert len(kept) == 1
        kept[0].unlink()
