"""DVC's own writer and params.yaml: any list can be changed, and nothing else changes with it."""

import copy
import shutil

from dvc.utils.hydra import apply_overrides

from imix.settings import text
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
