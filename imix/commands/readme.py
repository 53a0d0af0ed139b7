"""Write the results of reports/ into README.md, between the markers that name a study."""

import argparse
from pathlib import Path

from imix.errors import UserError
from imix.files import write_bytes

README = Path("README.md")


def options(parser: argparse.ArgumentParser) -> None:
    """Add no options."""


def run(args: argparse.Namespace) -> None:
    """Write README.md where it would change.

    Raises:
        UserError: a README.md that cannot be read, malformed markers, or missing results.
    """
    from imix.reporting import readme

    try:
        old = README.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{README}: cannot be read ({error})") from None
    new = readme.render(old, Path("reports"))
    if new != old:
        write_bytes(README, new.encode())
    print(f"{README}: {'written' if new != old else 'up to date'}")
