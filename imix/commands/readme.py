"""Write the generated texts: README.md and docs/evidence.md between markers, and docs/parameters.md."""

import argparse
from pathlib import Path

from imix.errors import UserError
from imix.files import write_bytes


def options(parser: argparse.ArgumentParser) -> None:
    """Add no options."""


def run(args: argparse.Namespace) -> None:
    """Write what would change of the pages that are there.

    Raises:
        UserError: no README.md, a page that cannot be read, malformed markers, or missing results.
    """
    from imix.reporting import parameters, readme
    from imix.settings.merging import PARAMS

    reports = Path("reports")
    pages = {
        Path("README.md"): lambda old: readme.with_graph(readme.render(old, reports), Path("dvc.yaml")),
        Path("docs/evidence.md"): lambda old: readme.render(old, reports, "docs/evidence.md"),
        Path("docs/parameters.md"): lambda _: parameters.markdown(PARAMS),
    }
    for path, render in pages.items():
        if path.exists() or path.name == "README.md":
            old = _read(path)
            new = render(old)
            if new != old:
                write_bytes(path, new.encode())
            print(f"{path}: {'written' if new != old else 'up to date'}")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
