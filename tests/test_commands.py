"""The command line: every command has its help, and says what it is asked."""

import json
import sys
from importlib import import_module

import pytest

from imix import __main__ as command_line
from imix.console import plain
from imix.errors import UserError
from imix.paths import Cell
from imix.planning import explaining
from imix.settings import loading, merging, resolved
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


def test_check_says_what_it_found_and_what_is_in_the_way(monkeypatch, capsys):
    monkeypatch.setenv("IMIX_DEVICE", "abacus")
    with pytest.raises(UserError, match="check: device: see above"):
        run(monkeypatch, capsys, "check", "-S", "grid.datasets=[diamonds]", "-S", "ablations.run=[]")
    lines = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert " ok " in lines["settings"] and " ok " in lines["data diamonds"] and "data mnist" not in lines
    assert "NOT OK" in lines["device"] and "must be cpu, cuda or cuda:N" in lines["device"]


def test_a_setting_is_explained_by_the_layer_that_it_came_from():
    params = loading.load(ROOT / "params.yaml")
    files = resolved.resolved(params)
    cell = explaining.cell("pretrain@mnist-augmented-moco-imix")
    assert cell == Cell("mnist", "augmented", "moco", "imix")
    found = {key: (json.loads(value), origin) for key, value, origin in explaining.settings(params, files, cell)}
    assert found["ema"] == (0.9, "recipe.mnist.moco") and found["momentum"] == (0.9, "defaults")
    assert found["mix"] == ("imix", "the cell") and found["views.jitter.hue"][1] == "recipe.mnist"
    assert {key: value for key, (value, _) in found.items()} == explaining.flat(
        json.loads(json.dumps(merging.resolve(params, cell).model_dump()))
    )
    assert explaining.cell("supervised@mnist-clean-none") == Cell("mnist", "clean", "supervised", "none")
    assert explaining.cell("report@embedded") is None


def test_a_change_is_named_with_both_values():
    old, new = {"settings.ema": 0.9, "code.training": "a"}, {"settings.ema": 0.99, "code.training": "b"}
    assert explaining._change("settings.ema", old, new) == "ema was 0.9, is 0.99"
    assert explaining._change("code.training", old, new) == "the code of training has changed"
    assert explaining._change("settings.queue", old, {"settings.queue": 5}) == "queue was nothing, is 5"
