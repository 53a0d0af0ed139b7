"""Write the generated texts: README.md and docs/evidence.md between markers, and docs/parameters.md."""

import argparse
from pathlib import Path

from imix.errors import UserError
from imix.files import write_bytes

README = Path("README.md")
EVIDENCE = Path("docs/evidence.md")
PARAMETERS = Path("docs/parameters.md")


def options(parser: argparse.ArgumentParser) -> None:
    """Add no options."""


def run(args: argparse.Namespace) -> None:
    """Write what would change.

    Raises:
        UserError: a README.md that cannot be read, malformed markers, or missing results.
    """
    from imix.reporting import readme

    old = _read(README)
    _write(README, old, readme.with_graph(readme.render(old, Path("reports")), Path("dvc.yaml")))
    if EVIDENCE.exists():
        old = _read(EVIDENCE)
        _write(EVIDENCE, old, readme.render(old, Path("reports"), str(EVIDENCE)))
    if PARAMETERS.exists():
        from imix.reporting import parameters
        from imix.settings.merging import PARAMS

        _write(PARAMETERS, _read(PARAMETERS), parameters.markdown(PARAMS))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None


def _write(path: Path, old: str, new: str) -> None:
    if new != old:
        write_bytes(path, new.encode())
    print(f"{path}: {'written' if new != old else 'up to date'}")
