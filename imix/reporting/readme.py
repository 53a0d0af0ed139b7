"""Render the blocks of README and docs: results from the committed reports, the graph from dvc.yaml."""

import re
from pathlib import Path

from imix.errors import UserError
from imix.reporting.graph import mermaid
from imix.reporting.page import few_labels_block, gains_block, readme_block
from imix.reporting.results import read_studies

NAMES = "[a-z][a-z0-9_]*"
BLOCKS = {"results": readme_block, "gains": gains_block, "few labels": few_labels_block}
KINDS = "|".join([*BLOCKS, "end"])
MARKER = re.compile(rf"^<!-- ({KINDS}) of ({NAMES}(?:, {NAMES})*) -->$")
LIKE_A_MARKER = re.compile(rf"<!--\s*({KINDS})\s+of\b".replace(" ", r"\s+"))

GRAPH = re.compile(r"(?<=^<!-- graph of stages -->\n).*?(?=^<!-- /graph of stages -->$)", re.DOTALL | re.MULTILINE)


def with_graph(readme: str, stages: Path) -> str:
    """Return the README with the graph of a dvc.yaml's ``stages`` between its markers, if any.

    Raises:
        UserError: a file that cannot be read.
    """
    return GRAPH.sub(lambda found: f"\n{mermaid(stages)}\n\n", readme) if GRAPH.search(readme) else readme


def render(text: str, reports: Path, name: str = "README.md") -> str:
    """Return a page with every block replaced by the current results.

    A block of study X is what is between the lines ``<!-- results of X -->`` and ``<!-- end of X
    -->``; its results are those of ``reports``/X/results.csv. ``gains`` instead of ``results``
    shows what mixing adds, ``few labels`` what it adds when the probe has few labels. X may be
    several studies, as in ``a, b``, which share the block.

    Args:
        name: of the page, for errors.

    Raises:
        UserError: markers that are malformed, unpaired, nested or repeated; results that are
            missing.
    """
    lines, study, seen = [], None, set()
    for number, line in enumerate(text.split("\n"), 1):
        marker = MARKER.match(line)
        if LIKE_A_MARKER.search(line) and not marker:
            kinds = ", ".join(f"<!-- {kind} of small -->" for kind in BLOCKS)
            allowed = f"must be a line like {kinds} or <!-- end of small -->"
            raise UserError(f"{name}:{number}: {line.strip()!r}: {allowed}")
        if marker and marker[1] in BLOCKS:
            if study or line in seen:
                problem = f"{study} has no end before this line" if study else "this block is there already"
                raise UserError(f"{name}:{number}: {line!r}: {problem}; each block must have one pair of markers")
            study = marker[2]
            seen.add(line)
            lines += [line, "", BLOCKS[marker[1]](read_studies(reports, study.split(", ")))]
        if marker and marker[1] == "end":
            if marker[2] != study:
                raise UserError(f"{name}:{number}: {line!r}: must follow a line <!-- results of {marker[2]} -->")
            study = None
        if not study:
            lines.append(line)
    if study:
        raise UserError(f"{name}: the block of {study} has no line <!-- end of {study} --> after it")
    return "\n".join(lines)
