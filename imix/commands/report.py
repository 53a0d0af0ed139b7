"""Print the results of studies that have run: their answer, the table, and where the pages are.

Several studies are read as one, which has the data sets of all. Reads results.csv and settings.json
of reports/<study>; nothing is trained or written.
"""

import argparse
from pathlib import Path

from imix.console import show_table
from imix.errors import UserError


def options(parser: argparse.ArgumentParser) -> None:
    """Add the study and the choice of a table."""
    text = "folders of reports/; default: grid.name in params.yaml"
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=text)
    parser.add_argument("--gains", action="store_true", help="print what i-Mix adds in each cell, with 95 %% intervals")


def run(args: argparse.Namespace) -> None:
    """Print headline and table.

    Raises:
        UserError: no such study, or two with the same data set.
    """
    from imix.reporting import results, tables
    from imix.reporting.latex import plain

    reports, names = Path("reports"), args.studies or [_default()]
    found = results.read_studies(reports, names)
    table = tables.gain_table(found) if args.gains else tables.metric_table(found)
    if headline := plain(tables.headline(found)):
        print(headline + "\n")
    if not table:
        raise UserError(f"{reports / names[0]}: nothing to compare: no mix beside plain training")
    right = ["data", "augmentation", "method", "mix", "verdict", "Holm"]
    show_table([head if head in right else f">{head}" for head in table.header], table.rows)
    print()
    for name in names:
        print(f"page: {reports / name / 'index.html'}")
        if other := _of_other_code(reports / name / "settings.json"):
            print(f"{name}: trained by other code than that of this folder: {', '.join(other)}")


def _of_other_code(settings: Path) -> list[str]:
    """Return data sets and methods of a study whose training code is not that of this folder."""
    from imix import identity, plugins
    from imix.reporting import results

    def now(method: str, source: str) -> str | None:
        if method not in plugins.names("methods") or source not in plugins.names("datasets"):
            return None
        return identity.training_code(method, plugins.find("datasets", source).KIND)

    record = results.read_json(settings, "data", "cells")
    try:
        return [
            f"{dataset} {method}"
            for dataset, augmentations in record["cells"].items()
            for method, mixes in next(iter(augmentations.values())).items()
            if next(iter(mixes.values()))["code"]["training"] != now(method, record["data"][dataset]["source"]["name"])
        ]
    except (AttributeError, KeyError, StopIteration, TypeError):
        raise UserError(f"{settings}: not as this version writes it; run `dvc repro`") from None


def _default() -> str:
    from imix.settings import text
    from imix.settings.merging import PARAMS

    try:
        return str(text.read(PARAMS)["grid"]["name"])
    except (KeyError, TypeError):
        raise UserError(f"{PARAMS}: grid.name is missing; name a study: imix report STUDY") from None
