"""Where a stage's settings come from, and why DVC would run it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imix.errors import UserError
from imix.paths import SETTINGS, Cell
from imix.planning.done import Recorded
from imix.schema import nearest
from imix.settings.merging import Block, layered
from imix.settings.study import Params

KINDS = ("pretrain", "supervised", "evaluate", "transfer")  # their names end on a cell


def flat(block: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return the values of nested blocks by their dotted keys."""
    found: dict[str, Any] = {}
    for key, value in block.items():
        found |= flat(value, f"{path}{key}.") if isinstance(value, Mapping) and value else {f"{path}{key}": value}
    return found


def cell(name: str) -> Cell | None:
    """Return the cell of a stage's name, as in ``pretrain@mnist-clean-moco-imix``; None for other stages."""
    kind, _, rest = name.partition("@")
    parts = rest.split("-")
    if kind == "supervised" and len(parts) == 3:
        parts.insert(2, "supervised")
    return Cell(*parts) if kind in KINDS[:3] and len(parts) == 4 else None


def settings(params: Params, files: Mapping[Path, Block], chosen: Cell) -> list[tuple[str, str, str]]:
    """Return key, value and origin of every setting of a cell's training; the origin is a layer of params.yaml."""
    layers = layered(params, chosen)
    found = []
    for key, value in flat(files[chosen.path.with_suffix(".json")]["settings"]).items():
        prefixes = [".".join(key.split(".")[:size]) for size in range(key.count(".") + 1, 0, -1)]
        origin = next((layers.origin[prefix] for prefix in prefixes if prefix in layers.origin), "the cell")
        asked = flat(layers.settings).get(key, value)
        if chosen.augmentation == "clean" and key.startswith("views."):
            origin = "the cell: clean views change nothing"
        elif asked != value:
            origin = f"{origin}: {json.dumps(asked)}"
        found.append((key, json.dumps(value), origin))
    return found


def reasons(name: str, record: Recorded, files: Mapping[Path, Block]) -> list[str]:
    """Return why DVC would run a stage, one line each; none if it would not.

    Raises:
        UserError: no such stage.
    """
    if name not in record.stages:
        raise UserError(f"dvc.yaml: no stage {name!r}{nearest(name, record.stages)}; `dvc stage list` has all")
    stage = record.stages[name]
    if not any(dep.hash_info for dep in stage.deps):
        return ["dvc.lock has no run of it"]
    found = ["its command is another one than dvc.lock has"] if stage.cmd_changed else []
    for dep in stage.deps:
        if record.same(dep):
            continue
        path = Path(dep.def_path)
        if path.is_relative_to(SETTINGS) and path.relative_to(SETTINGS) in files:
            found += _differences(path, files[path.relative_to(SETTINGS)], record, dep)
        elif first := [stage for out, stage in record.makers.items() if Path(out).is_relative_to(path)]:
            waits = sorted({stage.name for stage in first if not record.done(stage.outs[0].def_path)})
            more = f" and {len(waits) - 1} more" if len(waits) > 1 else ""
            found.append(f"{path}: {waits[0]}{more} before it" if waits else f"{path}: has changed")
        else:
            found.append(f"{path}: has changed" if dep.exists else f"{path}: is not there")
    gone = [out.def_path for out in stage.outs if not (out.hash_info and record.cache.exists(out.hash_info.value))]
    cached = [path for path in gone if not path.startswith("reports/")]  # reports are in git, not in the cache
    return found + [f"{path}: DVC's cache does not have it" for path in cached if not found]


def _differences(path: Path, new: Block, record: Recorded, dep: Any) -> list[str]:
    """Return what differs between the settings that a stage ran with, in DVC's cache, and those of params.yaml."""
    old: dict[str, Any] = {}
    if dep.hash_info and record.cache.exists(dep.hash_info.value):
        old = flat(json.loads(Path(record.cache.oid_to_path(dep.hash_info.value)).read_text(encoding="utf-8")))
    now = flat(json.loads(json.dumps(new)))
    keys = [key for key in (old.keys() | now.keys()) if old.get(key) != now.get(key)]
    if not old or not keys:
        return [f"{path}: has changed"]
    return [f"{path.name}: {_change(key, old, now)}" for key in sorted(keys)]


def _change(key: str, old: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if key.startswith("code."):
        return f"the code of {key.removeprefix('code.')} has changed"
    before, after = (json.dumps(block[key]) if key in block else "nothing" for block in (old, now))
    return f"{key.removeprefix('settings.')} was {before}, is {after}"
