"""DVC's own writer and params.yaml: any list can be changed, and nothing else changes with it."""

import copy
import os
import re
import shutil
import subprocess

import pytest
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import load_yaml

from imix.settings import overrides, text
from tests.conftest import ROOT


def lists(value, path=()):
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in lists(inner, (*path, key))]
    return [path] if isinstance(value, list) else []


def changed(raw, path, value):
    copied = copy.deepcopy(raw)
    block = copied
    for key in path[:-1]:
        block = block[key]
    block[path[-1]] = value
    return copied


def test_every_list_can_be_emptied_and_replaced(tmp_path):
    """A comment on the line of a block list makes DVC write what is no YAML."""
    raw = text.read(ROOT / "params.yaml")
    assert len(lists(raw)) > 30
    for value in ([], [7]):
        params, expected = tmp_path / "params.yaml", raw
        shutil.copy(ROOT / "params.yaml", params)
        apply_overrides(params, [f"{'.'.join(path)}={value}" for path in lists(raw)])
        for path in lists(raw):
            expected = changed(expected, path, value)
        assert text.read(params) == expected


def test_a_checksum_of_another_edition_can_be_set(tmp_path):
    """In a mapping on one line, DVC writes the value so that it cannot read it again."""
    raw = text.read(ROOT / "params.yaml")
    named = [name for name, data in raw["data"].items() if "checksum" in data.get("source", {})]
    assert len(named) == 4
    for name in named:
        shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
        value = f"sha256:{'0123456789abcdef' * 4}"
        apply_overrides(tmp_path / "params.yaml", [f"data.{name}.source.checksum={value}"])
        assert load_yaml(tmp_path / "params.yaml") == changed(raw, ("data", name, "source", "checksum"), value)


CASES = re.findall(r"^(\w[\w |]*)\)", (ROOT / "benchmarks/real_data.sh").read_text(), re.MULTILINE)
STUDIES = " | ".join(CASES).split(" | ")


@pytest.mark.parametrize("study", STUDIES)
def test_studies_on_real_rows_are_valid_changes_of_params(study, tmp_path, monkeypatch):
    """benchmarks/real_data.sh, with a dvc that prints its arguments."""
    (tmp_path / "dvc").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "dvc").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        [ROOT / "benchmarks/real_data.sh", study, "-S", "grid.seeds=[7]"],
        env=os.environ | {"PATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    command, *options = ran.stdout.splitlines()
    assert command == "exp" and options.pop(0) == "run" and options[0::2] == ["-S"] * (len(options) // 2)
    monkeypatch.chdir(ROOT)
    params = overrides.changed(tmp_path, options[1::2])
    assert params.grid.name == study and params.grid.seeds == [7]
    assert all(name.endswith("_small") for name in params.grid.datasets)
    assert f"reports/{study}/" in (ROOT / "docs/evidence.md").read_text()


def test_an_unknown_study_is_refused():
    ran = subprocess.run([ROOT / "benchmarks/real_data.sh", "mnist"], capture_output=True, text=True, check=False)
    assert ran.returncode == 1 and f"must be one of {', '.join(STUDIES)}" in ran.stderr and len(STUDIES) > 1
