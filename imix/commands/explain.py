"""Print where each setting of a stage comes from in params.yaml, and why `dvc repro` would run the stage.

`dvc stage list` prints the names of all stages: pretrain@mnist-clean-moco-imix, project@mnist, report@embedded.
"""

import argparse
import tempfile
from pathlib import Path

from imix.commands import arguments
from imix.console import show_table
from imix.errors import UserError


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
    from imix.planning import explaining
    from imix.settings import resolved
    from imix.settings.overrides import changed

    with tempfile.TemporaryDirectory() as folder:
        params = changed(Path(folder), args.S)
        files = resolved.resolved(params)
        record = recorded(Path(folder), files)
        if record is None:
            raise UserError("explain: no DVC repository here; run it in the project's folder")
        reasons = explaining.reasons(args.stage, record, files)
    cell = explaining.cell(args.stage)
    if cell and cell.path.with_suffix(".json") in files:
        show_table(["setting", "value", "from"], explaining.settings(params, files, cell))
        print()
    print(f"{args.stage}: {'would run' if reasons else 'is up to date'}")
    for reason in reasons:
        print(f"  {reason}")
