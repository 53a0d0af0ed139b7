"""Render the README's blocks: results from the committed reports, the graph from dvc.yaml."""

import re
from pathlib import Path

from imix.errors import UserError
from imix.reporting.graph import mermaid
from imix.reporting.page import readme_block
from imix.reporting.results import COLUMNS, read_csv

MARKER = re.compile(r"^<!-- (results|end) of ([a-z][a-z0-9_]*) -->$")
LIKE_A_MARKER = re.compile(r"<!--\s*(results|end)\s+of\b")

GRAPH = re.compile(r"(?<=^<!-- graph of stages -->\n).*?(?=^<!-- /graph of stages -->$)", re.DOTALL | re.MULTILINE)


def with_graph(readme: str, stages: Path) -> str:
    """Return the README with the graph of a dvc.yaml's ``stages`` between its markers, if any.

    Raises:
        UserError: a file that cannot be read.
    """
    return GRAPH.sub(lambda found: f"\n{mermaid(stages)}\n\n", readme) if GRAPH.search(readme) else readme


def render(readme: str, reports: Path) -> str:
    """Return the README with every block replaced by the current results.

    A block of study X is what is between the lines ``<!-- results of X -->`` and ``<!-- end of X
    -->``; its results are those of ``reports``/X/results.csv.

    Raises:
        UserError: markers that are malformed, unpaired, nested or repeated; results that are
            missing.
    """
    lines, study, studies = [], None, set()
    for number, line in enumerate(readme.split("\n"), 1):
        marker = MARKER.match(line)
        if LIKE_A_MARKER.search(line) and not marker:
            allowed = "must be a line like <!-- results of small --> or <!-- end of small -->"
            raise UserError(f"README.md:{number}: {line.strip()!r}: {allowed}")
        if marker and marker[1] == "results":
            if study or marker[2] in studies:
                problem = f"{study} has no end before this line" if study else f"{marker[2]} has a block already"
                raise UserError(f"README.md:{number}: {line!r}: {problem}; each study must have one pair of markers")
            study = marker[2]
            studies.add(study)
            lines += [line, "", readme_block(read_csv(reports / study / "results.csv", COLUMNS))]
        if marker and marker[1] == "end":
            if marker[2] != study:
                raise UserError(f"README.md:{number}: {line!r}: must follow a line <!-- results of {marker[2]} -->")
            study = None
        if not study:
            lines.append(line)
    if study:
        raise UserError(f"README.md: <!-- results of {study} --> has no line <!-- end of {study} --> after it")
    return "\n".join(lines)
