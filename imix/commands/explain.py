"""Print where a stage's settings come from in params.yaml, and why `dvc repro` would run it.

`dvc stage list` prints the names of all stages: pretrain@mnist-clean-moco-imix, project@mnist, report@embedded.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imix.commands import arguments
from imix.console import show_table
from imix.errors import UserError
from imix.paths import SETTINGS, Cell

if TYPE_CHECKING:
    from imix.planning.done import Recorded
    from imix.settings.merging import Block, Merged

CELLS = ("pretrain", "supervised", "evaluate")  # stages whose names end on a cell


def options(parser: argparse.ArgumentParser) -> None:
    """Add the stage and ``-S``."""
    parser.add_argument("stage", metavar="STAGE", help="such as pretrain@mnist-clean-moco-imix")
    arguments.add_changes(parser)


def run(args: argparse.Namespace) -> None:
    """Print settings with their origin, then reasons.

    Raises:
        UserError: no such stage, or no DVC repository.
    """
    from imix.commands.plan import recorded
    from imix.settings import merging, resolved
    from imix.settings.overrides import changed

    with tempfile.TemporaryDirectory() as folder:
        params = changed(Path(folder), args.S)
        files = resolved.resolved(params)
        record = recorded(Path(folder), files)
        if record is None:
            raise UserError("explain: no DVC repository here; run it in the project's folder")
        reasons = list(stale(args.stage, record, files))
    cell = named(args.stage)
    if cell and (block := files.get(cell.path.with_suffix(".json"))):
        show_table(["setting", "value", "from"], origins(cell, block["settings"], merging.layered(params, cell)))
        print()
    print(f"{args.stage}: {'would run' if reasons else 'is up to date'}")
    for reason in reasons:
        print(f"  {reason}")


def flat(block: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return the values of nested blocks by their dotted keys."""
    found: dict[str, Any] = {}
    for key, value in block.items():
        found |= flat(value, f"{path}{key}.") if isinstance(value, Mapping) and value else {f"{path}{key}": value}
    return found


def named(stage: str) -> Cell | None:
    """Return the cell of a stage's name, as in ``pretrain@mnist-clean-moco-imix``.

    Return None for other stages.
    """
    kind, _, rest = stage.partition("@")
    parts = rest.split("-")
    if kind == "supervised" and len(parts) == 3:
        parts.insert(2, "supervised")
    return Cell(*parts) if kind in CELLS and len(parts) == 4 else None


def origins(cell: Cell, settings: "Block", layers: "Merged") -> list[tuple[str, str, str]]:
    """Return key, value and origin of every setting of a cell's training.

    The origin is a layer of params.yaml.
    """
    found, given = [], flat(layers.settings)
    for key, value in flat(settings).items():
        prefixes = [".".join(key.split(".")[:size]) for size in range(key.count(".") + 1, 0, -1)]
        origin = next((layers.origin[prefix] for prefix in prefixes if prefix in layers.origin), "the cell")
        if cell.augmentation == "clean" and key.startswith("views."):
            origin = "the cell: clean views change nothing"
        elif given.get(key, value) != value:
            origin = f"{origin}: {json.dumps(given[key])}"
        found.append((key, json.dumps(value), origin))
    return found


def stale(name: str, record: "Recorded", files: "Mapping[Path, Block]") -> Iterator[str]:
    """Yield why DVC would run a stage, one line each; nothing if it would not.

    Raises:
        UserError: no such stage.
    """
    from imix.schema import nearest

    if name not in record.stages:
        raise UserError(f"dvc.yaml: no stage {name!r}{nearest(name, record.stages)}; `dvc stage list` has all")
    stage = record.stages[name]
    if not any(dep.hash_info for dep in stage.deps):
        yield "dvc.lock has no run of it"
        return
    if stage.cmd_changed:
        yield "its command is another one than dvc.lock has"
    changed = [dep for dep in stage.deps if not record.same(dep)]
    for dep in changed:
        yield from _changed(dep, record, files)
    if not stage.cmd_changed and not changed:
        gone = [out.def_path for out in stage.outs if not record.cached(out)]
        # reports are in git, not in the cache
        yield from (f"{path}: DVC's cache does not have it" for path in gone if not path.startswith("reports/"))


def _changed(dep: Any, record: "Recorded", files: "Mapping[Path, Block]") -> Iterator[str]:
    """Yield in what a dependency differs from what dvc.lock has."""
    path = Path(dep.def_path)
    block = files.get(path.relative_to(SETTINGS)) if path.is_relative_to(SETTINGS) else None
    made = [(out, stage.name) for out, stage in record.makers.items() if Path(out).is_relative_to(path)]
    waits = sorted({maker for out, maker in made if not record.done(out)})
    if block is not None:
        yield from _differences(path.name, block, record, dep)
    elif waits:
        yield f"{path}: {waits[0]}{f' and {len(waits) - 1} more' * (len(waits) > 1)} before it"
    else:
        yield f"{path}: has changed" if made or dep.exists else f"{path}: is not there"


def _differences(file: str, new: "Block", record: "Recorded", dep: Any) -> list[str]:
    """Return how params.yaml differs from the settings that a stage ran with, in DVC's cache."""
    old: dict[str, Any] = {}
    if record.cached(dep):
        old = flat(json.loads(Path(record.cache.oid_to_path(dep.hash_info.value)).read_text(encoding="utf-8")))
    now = flat(json.loads(json.dumps(new)))
    keys = [key for key in sorted(old.keys() | now.keys()) if old.get(key) != now.get(key)] if old else []
    return [f"{file}: {_difference(key, old, now)}" for key in keys] or [f"{dep.def_path}: has changed"]


def _difference(key: str, old: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if key.startswith("code."):
        return f"the code of {key.removeprefix('code.')} has changed"
    before, after = (json.dumps(block[key]) if key in block else "nothing" for block in (old, now))
    return f"{key.removeprefix('settings.')} was {before}, is {after}"
