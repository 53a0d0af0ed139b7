"""The command line: every command has its help, and says what it is asked."""

import dataclasses
import json
import shutil
import sys
from importlib import import_module

import pandas as pd
import pytest

from imix import __main__ as command_line
from imix import archives
from imix.commands import explain
from imix.console import plain
from imix.errors import UserError
from imix.paths import Cell
from imix.reporting import results
from imix.settings import loading, merging
from tests import test_report
from tests.conftest import ROOT


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["imix", *arguments])
    command_line.command()
    return capsys.readouterr().out


@pytest.mark.parametrize("name", command_line.COMMANDS)
def test_every_command_has_help_of_its_own(name, monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, capsys, name, "--help")
    text = capsys.readouterr().out
    assert ended.value.code == 0 and import_module(f"imix.commands.{name}").__doc__.splitlines()[0] in text


def test_the_help_lists_all_commands_and_imports_none(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "imix.commands.plan", raising=False)
    with pytest.raises(SystemExit):
        run(monkeypatch, capsys, "--help")
    text = capsys.readouterr().out
    assert all(f"    {name} " in text for name in command_line.COMMANDS) and "imix.commands.plan" not in sys.modules


def test_an_unknown_command_is_refused(monkeypatch, capsys):
    with pytest.raises(UserError, match="invalid choice: 'plann'"):
        run(monkeypatch, capsys, "plann")


def test_a_plain_table_is_aligned():
    assert plain(["name", ">n"], [["a", "1"], ["long", "10"]]) == "name   n\na      1\nlong  10\n"


def test_a_terminal_gets_a_table_of_rich(monkeypatch, capsys):
    from imix.console import show_table

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    show_table(["name", ">n"], [["[red]a", "1"], ["total", "1"]], total=True)
    text = capsys.readouterr().out
    assert "[red]a" in text and "─" in text  # text is no markup


def test_report_prints_the_committed_results(monkeypatch, capsys):
    text = run(monkeypatch, capsys, "report", "embedded")
    assert "augmentation i-Mix adds" in text and "raw inputs" in text and "reports/embedded/index.html" in text
    assert "verdict" in run(monkeypatch, capsys, "report", "embedded", "--gains")
    with pytest.raises(UserError, match=r"reports/nothing/results\.csv: cannot be read"):
        run(monkeypatch, capsys, "report", "nothing")


def test_report_reads_several_studies_as_one_and_names_those_of_other_code(monkeypatch, capsys, tmp_path):
    for name, renamed in (("a", "first_{}"), ("b", "second_{}")):
        folder = tmp_path / "reports" / name
        folder.mkdir(parents=True)
        rows = pd.read_csv(ROOT / "reports/embedded/results.csv")
        rows.assign(dataset=rows.dataset.map(renamed.format)).to_csv(folder / "results.csv", index=False)
        record = json.loads((ROOT / "reports/embedded/settings.json").read_text())
        if name == "b":
            record["cells"]["mnist"]["augmented"]["moco"]["none"]["code"]["training"] = "0" * 64
        (folder / "settings.json").write_text(json.dumps(record))
    monkeypatch.chdir(tmp_path)
    text = run(monkeypatch, capsys, "report", "a", "b")
    assert "of 18 comparisons gain" in text and "first_mnist" in text and "second_mnist" in text
    assert "b: trained by other code than that of this folder: mnist moco\n" in text
    assert "a: trained by" not in text
    (tmp_path / "reports/b/settings.json").write_text('{"data": {}, "cells": {"mnist": []}}')
    with pytest.raises(UserError, match=r"settings\.json: not as this version writes it"):
        run(monkeypatch, capsys, "report", "b")


def test_curves_are_those_of_the_trainings_so_far(monkeypatch, capsys, tmp_path):
    grid = test_report.Grid(name="small", datasets=("covtype",), methods=("npair",), supervised=("none",))
    test_report.make(tmp_path / "data", grid)
    test_report.write(tmp_path / "data/settings/grid.json", {"settings": dataclasses.asdict(grid)})
    history = test_report.files(tmp_path / "data").history(("covtype", "clean", "npair", "imix"), grid.seeds[0])
    history.write_text("".join(history.read_text().splitlines(keepends=True)[:3]))
    monkeypatch.chdir(tmp_path)
    lines = run(monkeypatch, capsys, "curves").splitlines()
    seeds = len(grid.seeds)
    (line,) = (line.split() for line in lines if line.split()[1:4] == ["clean", "npair", "imix"])
    assert " ".join(line[4:]).startswith(f"{seeds - 1} of {seeds} 2 of 5 ")
    table = results.read_csv(tmp_path / "reports/small/curves.csv", ("group", "epoch", "loss", "knn_validation"))
    assert len(table) == 4 * 5 and set(table["method"]) == {"npair"} and "supervised" in "".join(lines)
    shutil.rmtree("data/histories")
    with pytest.raises(UserError, match="data/histories: no training of the grid has finished an epoch"):
        run(monkeypatch, capsys, "curves")


def test_check_says_what_it_found_and_what_is_in_the_way(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("IMIX_DEVICE", "abacus")
    monkeypatch.setattr(archives, "STORE", tmp_path)
    monkeypatch.setenv("IMIX_DATA_MIRROR", str(tmp_path))
    with pytest.raises(UserError, match="check: data covtype_small, device: see above"):
        run(monkeypatch, capsys, "check", "-S", "grid.datasets=[diamonds,covtype_small]", "-S", "ablations.run=[]")
    lines = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert " ok " in lines["settings"] and " ok " in lines["data diamonds"] and "data mnist" not in lines
    assert "has no covtype.data.gz" in lines["data covtype_small"]
    assert "NOT OK" in lines["device"] and "must be cpu, cuda or cuda:N" in lines["device"]


def test_a_setting_is_explained_by_the_layer_that_it_came_from():
    params = loading.load(ROOT / "params.yaml")
    cell = explain.named("pretrain@mnist-augmented-moco-imix")
    assert cell == Cell("mnist", "augmented", "moco", "imix")
    settings, layers = merging.resolve(params, cell).model_dump(), merging.layered(params, cell)
    found = {key: (json.loads(value), origin) for key, value, origin in explain.origins(cell, settings, layers)}
    assert found["ema"] == (0.9, "recipe.mnist.moco") and found["momentum"] == (0.9, "defaults")
    assert found["mix"] == ("imix", "the cell") and found["views.jitter.hue"][1] == "recipe.mnist"
    assert {key: value for key, (value, _) in found.items()} == explain.flat(json.loads(json.dumps(settings)))
    assert explain.named("supervised@mnist-clean-none") == Cell("mnist", "clean", "supervised", "none")
    assert explain.named("report@embedded") is None


def test_a_change_is_named_with_both_values():
    old, new = {"settings.ema": 0.9, "code.training": "a"}, {"settings.ema": 0.99, "code.training": "b"}
    assert explain._difference("settings.ema", old, new) == "ema was 0.9, is 0.99"
    assert explain._difference("code.training", old, new) == "the code of training has changed"
    assert explain._difference("settings.queue", old, {"settings.queue": 5}) == "queue was nothing, is 5"
