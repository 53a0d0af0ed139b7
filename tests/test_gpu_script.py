"""benchmarks/gpu.sh without a GPU: each part on a CPU, in sizes that show whether it runs."""

import argparse
import csv
import json
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks import gpu, gpu_covtype, gpu_speed
from imix import sources
from imix.datasets import covtype


@pytest.fixture
def on_cpu(monkeypatch):
    monkeypatch.setenv("IMIX_DEVICE", "cpu")


def rows(path):
    return list(csv.DictReader(path.open()))


def test_steps_views_and_epochs_are_timed(tmp_path, monkeypatch, on_cpu):
    monkeypatch.setattr(gpu_speed, "TINY", gpu_speed.TINY[-1:])
    monkeypatch.setattr(sys, "argv", ["gpu_speed", str(tmp_path), "--tiny"])
    gpu_speed.main()
    assert [row["variant"] for row in rows(tmp_path / "step.csv")] == ["plain float32", "float32", "bfloat16"]
    assert all(float(row["peak_percent"]) > 0 for row in rows(tmp_path / "step.csv")[1:])
    assert {row["data"] for row in rows(tmp_path / "views.csv")} == {"cifar10", "speech_commands", "covtype"}
    assert len((tmp_path / "epoch.md").read_text().splitlines()) == 2 + 2


def test_no_case_begins_when_time_is_up(tmp_path, monkeypatch, on_cpu, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu_speed", str(tmp_path), "--tiny", "--seconds=0"])
    gpu_speed.main()
    assert "cases were not timed" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_a_covtype_cell_is_trained_evaluated_and_tabled(tmp_path, on_cpu):
    generator = np.random.default_rng(0)
    inputs = {split: generator.standard_normal((140, 54)).astype(np.float32) for split in sources.SPLITS}
    labels = {split: np.arange(140) % 7 for split in sources.SPLITS}
    mean, std = np.zeros(10, np.float32), np.ones(10, np.float32)
    splits = sources.Splits(
        inputs, labels, covtype.CLASSES, mean, std, carved=True, column_groups=covtype.COLUMN_GROUPS, numbers=10
    )
    sources.save(splits, tmp_path / "tensors", covtype.KIND, "noise", {})
    for cell in gpu_covtype.CELLS[:2]:
        chosen = gpu_covtype.settings(cell, "bfloat16", tiny=True)
        arguments = (cell, chosen, gpu_covtype.evaluation(tiny=True), 3, tmp_path / "tensors", tmp_path / "covtype")
        gpu_covtype.one(0, lambda *_: None, *arguments)
    gpu_covtype.tables(tmp_path / "covtype", tmp_path)
    plain, mixed, *others = rows(tmp_path / "covtype_cells.csv")
    found = json.loads((tmp_path / "covtype/npair-imix-3.json").read_text())
    assert float(mixed["linear_accuracy"]) == pytest.approx(found["linear_accuracy"], abs=0.05)
    gain = float(mixed["linear_accuracy"]) - float(plain["linear_accuracy"])
    assert float(mixed["gain of linear_accuracy"]) == pytest.approx(gain, abs=0.11)
    assert [row["n"] for row in (plain, mixed, *others)] == ["1", "1", "0", "0", "0", "0"]


def test_the_recipes_are_the_papers():
    for cell in gpu_covtype.CELLS:
        chosen = gpu_covtype.settings(cell, "tf32", tiny=False)
        assert (chosen["encoder"]["width"], chosen["epochs"], chosen["batch_size"]) == (1.0, 500, 512)


@pytest.mark.parametrize(
    "code,how", [("print('fine')", "exit code 0"), ("import time; time.sleep(60)", "exit code -15")]
)
def test_a_part_ends_in_time_and_what_it_wrote_is_summed_up(tmp_path, monkeypatch, code, how):
    monkeypatch.setattr(gpu, "command", lambda *_: [sys.executable, "-c", code])
    monkeypatch.setattr(gpu, "machine", lambda: "a machine")
    (tmp_path / "step.md").write_text("| a |\n")
    args = argparse.Namespace(results=tmp_path)
    started = time.monotonic()
    ended = {"speed": gpu.run("speed", args, 1)}
    gpu.summary(args, ended)
    text = (tmp_path / "summary.md").read_text()
    assert time.monotonic() - started < 30 and how in text and "| a |" in text and "views: nothing" in text


@pytest.mark.parametrize("script", ["gpu.sh", "gpu_wheels.sh"])
def test_scripts_say_what_they_need(script):
    found = subprocess.run([f"benchmarks/{script}"], capture_output=True, text=True)
    assert found.returncode == 1 and "folder" in found.stderr
