"""The main table of a study in LaTeX, and how to cite paper and software in BibTeX."""

import re
from collections.abc import Sequence

from imix import __version__
from imix.reporting.tables import Table

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "†": r"$^\dagger$", "–": "--",
    "↓": r"$\downarrow$",
}  # fmt: skip
BIBTEX = f"""\
@inproceedings{{lee2021imix,
  title     = {{{{i-Mix}}: A Domain-Agnostic Strategy for Contrastive Representation Learning}},
  author    = {{Lee, Kibok and Zhu, Yian and Sohn, Kihyuk and Li, Chun-Liang and Shin, Jinwoo and Lee, Honglak}},
  booktitle = {{International Conference on Learning Representations}},
  year      = {{2021}},
  url       = {{https://arxiv.org/abs/2010.08887}},
}}

@software{{imix,
  title   = {{imix: i-Mix as a reproducible pipeline}},
  author  = {{{{The imix developers}}}},
  version = {{{__version__}}},
  year    = {{2026}},
}}
"""


def escaped(text: str) -> str:
    """Return text as LaTeX prints it."""
    return "".join(SPECIAL.get(character, character) for character in text)


def tabular(table: Table, caption: str) -> str:
    """Return a table with rules of the booktabs package and, above it, the packages that it needs.

    "" for no rows.
    """
    if not table.rows:
        return ""
    columns = "l" + "r" * (len(table.header) - 1)
    rows = [" & ".join(map(escaped, row)) + r" \\" for row in _grouped(table.rows)]
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{escaped(caption)}}}",
        rf"  \begin{{tabular}}{{{columns}}}",
        r"    \toprule",
        "    " + " & ".join(map(escaped, table.header)) + r" \\",
        r"    \midrule",
        *(f"    {row}" for row in rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _grouped(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Leave out the name of a data set that the row above has."""
    names = ["", *(row[0] for row in rows)]
    return [["" if row[0] == above else row[0], *row[1:]] for above, row in zip(names, rows, strict=False)]


def plain(markdown: str) -> str:
    """Return a sentence of Markdown without its marks."""
    return re.sub(r"\*\*|`", "", markdown).strip()
