"""Single stages, in the clone with a small study: fresh clones, failures, and what a person may get wrong."""

import importlib
import shutil
import sys

import pytest

from imix.errors import UserError
from tests import clones

MOCO = "diamonds-clean-moco-imix"  # one cell
CELL = "--dataset diamonds --augmentation clean --method moco --mix imix"


def test_a_fresh_clone_runs_what_a_target_needs(study, tmp_path):
    """And with git's conversion of line ends: the same code, and the same reports."""
    clones.run(tmp_path, "git", "clone", "-q", "-c", "core.autocrlf=true", str(study[0]), "fresh")
    fresh = tmp_path / "fresh"
    for path in ("imix/jobs.py", "params.yaml", "dvc.lock", "reports/clone/results.md", "reports/clone/gains.svg"):
        assert (fresh / path).read_bytes() == (study[0] / path).read_bytes()
    needed = {"settings", "fetch@diamonds", "preprocess@diamonds", f"pretrain@{MOCO}"}
    assert clones.repro(fresh, f"pretrain@{MOCO}") == needed
    encoder = "data/encoders/diamonds/clean/moco/imix/0.safetensors"
    assert (fresh / encoder).read_bytes() == (study[0] / encoder).read_bytes()
    assert clones.git(fresh, "status", "--porcelain") == ""  # dvc.lock is as it was


def test_a_shared_cache_serves_a_fresh_clone(study, tmp_path):
    clones.run(tmp_path, "git", "clone", "-q", str(study[0]), "fresh")
    fresh = tmp_path / "fresh"
    clones.run(fresh, "dvc", "cache", "dir", "--local", str(study[0] / ".dvc/cache"))
    said = clones.run(fresh, "dvc", "repro", f"evaluate@{MOCO}")
    assert clones.stages_run(said) == set()
    assert (fresh / f"data/metrics/{MOCO.replace('-', '/')}/0.json").exists()


def test_a_failed_stage_leaves_what_is_done(clone):
    """The history of one of two seeds cannot be written; the next run trains neither again."""
    clones.change(clone, "grid.seeds", [0, 1])
    stage, folder = "pretrain@other-clean-moco-none", clone / "data/histories/other/clean/moco/none"
    clones.run(clone, "dvc", "repro", "settings")
    shutil.rmtree(folder)
    (folder / "1.csv").mkdir(parents=True)
    (folder / "1.csv/in the way").touch()
    identity = CELL.replace("diamonds", "other").replace("imix", "none").split()
    done = clones.run(clone, sys.executable, "-m", "stages.pretrain", *identity, code=1)
    assert "1.csv" in done
    before = clones.trainings(clone)
    assert clones.repro(clone, stage) == {stage}
    assert clones.trainings(clone) == before and (folder / "1.csv").is_file()


def test_a_mistake_is_one_line_and_dvc_runs_nothing_else(clone):
    clones.change(clone, "recipe.diamonds.moco.imix.temperature", 0)
    said = clones.run(clone, "dvc", "repro", code=255)
    (line,) = [line for line in said.splitlines() if line.startswith("imix: error:")]
    assert "params.yaml: recipe.diamonds.moco.imix.temperature = 0" in line and "Traceback" not in said
    assert clones.stages_run(said) == {"settings"}


@pytest.mark.parametrize(
    "arguments,words",
    [
        ("fetch --dataset segmnet", "data/settings/segmnet/source.json: is not there; `dvc repro settings`"),
        ("baseline --dataset ../x", "--dataset = '../x': must be a name"),
        ("report --study another", "--study: grid.name: no entry 'another'"),
        ("evaluate --dataset diamonds --augmentation clean --mix imix", "--method"),
        (f"evaluate --pretrained_on diamonds {CELL}", "--pretrained_on = 'diamonds': must be another data set"),
        (f"pretrain {CELL.replace('moco', 'simclr')}", "simclr/imix.json: is not there"),
        (f"pretrain {CELL.replace('clean', 'no')}", "--augmentation = 'no': must be one of augmented, clean"),
        (f"evaluate {CELL.replace('moco', 'byol')}", "has no <seed>.safetensors"),
    ],
)
def test_a_wrong_identity_is_one_line(study, arguments, words, monkeypatch):
    stage, *options = arguments.split()
    monkeypatch.chdir(study[0])
    monkeypatch.setattr(sys, "argv", [f"{stage}.py", *options])
    with pytest.raises(UserError) as error:
        importlib.import_module(f"stages.{stage}").main()
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_damaged_encoder_is_one_line(clone):
    encoder = clone / "data/encoders/diamonds/clean/moco/imix/0.safetensors"
    content = encoder.read_bytes()
    encoder.unlink()  # DVC may have linked it to its cache
    encoder.write_bytes(content[:1000])
    command = ["stages.evaluate", *CELL.split()]
    said = clones.run(clone, sys.executable, "-m", *command, code=1)
    assert "imix/0.safetensors: not an encoder of this project" in said and "Traceback" not in said


@pytest.mark.parametrize(
    "variable,value",
    [("IMIX_WORKERS", "many"), ("IMIX_DEVICE", "cuda:99"), ("IMIX_SAVE_SECONDS", "-1")],
)
def test_a_wrong_environment_is_one_line(clone, tmp_path, variable, value):
    variables = {"IMIX_STORE": str(tmp_path / "store"), variable: value}
    command = ["stages.pretrain", *CELL.split()]
    said = clones.run(clone, sys.executable, "-m", *command, code=1, **variables)
    assert f"{variable} = {value!r}" in said and "Traceback" not in said
