"""The graph of dvc.yaml's stages as Mermaid: a box per group, an arrow per dependency."""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from imix.settings import text


def edges(stages: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the edges of the graph: pairs (stage, stage that uses one of its outputs).

    An edge is left out if a path of other edges connects the two.
    """
    outs = {name: [_parts(out) for out in _paths(stage.get("outs", []))] for name, stage in stages.items()}
    direct = {
        name: {
            other
            for dep in map(_parts, _paths(stage.get("deps", [])))
            for other, made in outs.items()
            if other != name and any(_within(dep, out) for out in made)
        }
        for name, stage in stages.items()
    }
    return [
        (other, name)
        for name, needs in direct.items()
        for other in stages
        if other in needs and not any(other in _before(third, direct) for third in needs)
    ]


def _before(name: str, direct: dict[str, set[str]]) -> set[str]:
    """Return all stages that one needs, directly or not."""
    return direct[name].union(*(_before(other, direct) for other in direct[name]))


def _paths(entries: Iterable[Any]) -> list[str]:
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def _parts(path: str) -> tuple[str, ...]:
    """Return the parts of a path, with ``*`` for what the matrix fills in."""
    return PurePosixPath(re.sub(r"\$\{[^}]*\}", "*", path)).parts


def _within(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether two paths are the same, or one is inside the other."""
    return all(a == b for a, b in zip(one, other, strict=False))


def mermaid(file: Path = Path("dvc.yaml")) -> str:
    """Return the graph as a Mermaid flow chart.

    Raises:
        UserError: a file that cannot be read.
    """
    stages = text.read(file)["stages"]
    after: dict[str, list[str]] = {}
    for one, other in edges(stages):
        after.setdefault(one, []).append(other)
    named: set[str] = set()

    def box(name: str) -> str:
        """Return a stage's name, at its first place with the text of its box."""
        first = name not in named
        named.add(name)
        return f'{name}["{name}{_per(stages[name])}"]' if first else name

    lines = [f"    {box(one)} --> {' & '.join(map(box, others))}" for one, others in after.items()]
    return "\n".join(["```mermaid", "flowchart LR", *lines, "```"])


def _per(stage: dict[str, Any]) -> str:
    """Return what a group has a stage for; nothing for a single stage."""
    axes = [axis for axis in stage.get("matrix", {}) if axis != "study"]
    cell = {"dataset", "augmentation", "method", "mix"}
    if len(axes) > 2:
        axes = ["cell", *(axis for axis in axes if axis not in cell)]
    return f"<br/>per {', '.join(axes)}" if axes else ""
