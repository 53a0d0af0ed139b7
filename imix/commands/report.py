"""Print the results of a study that has run: its answer, the table, and where the page is.

Reads reports/<study>/results.csv; nothing is trained or written.
"""

import argparse
from pathlib import Path

from imix.console import show_table
from imix.errors import UserError


def options(parser: argparse.ArgumentParser) -> None:
    """Add the study and the choice of a table."""
    text = "a folder of reports/; default: grid.name in params.yaml"
    parser.add_argument("study", nargs="?", metavar="STUDY", help=text)
    parser.add_argument("--gains", action="store_true", help="print what i-Mix adds in each cell, with 95 %% intervals")


def run(args: argparse.Namespace) -> None:
    """Print headline and table.

    Raises:
        UserError: no such study.
    """
    from imix.reporting import results, tables
    from imix.reporting.latex import plain

    name = args.study or _default()
    folder = Path("reports") / name
    found = results.read_csv(folder / "results.csv", results.COLUMNS)
    table = tables.gain_table(found) if args.gains else tables.metric_table(found)
    if headline := plain(tables.headline(found)):
        print(headline + "\n")
    if not table:
        raise UserError(f"{folder}: nothing to compare: no mix beside plain training")
    right = ["data", "augmentation", "method", "mix", "verdict", "Holm"]
    show_table([head if head in right else f">{head}" for head in table.header], table.rows)
    print(f"\npage: {folder / 'index.html'}")


def _default() -> str:
    from imix.settings import text
    from imix.settings.merging import PARAMS

    try:
        return str(text.read(PARAMS)["grid"]["name"])
    except (KeyError, TypeError):
        raise UserError(f"{PARAMS}: grid.name is missing; name a study: imix report STUDY") from None
