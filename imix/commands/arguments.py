"""Options that several commands have."""

import argparse

from imix.errors import Once


def positive(text: str) -> float:
    """Return a positive number from the command line."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} must be a positive number")
    return value


def add_number(parser: argparse.ArgumentParser, name: str, unit: str, text: str) -> None:
    """Add an option that takes one positive number."""
    parser.add_argument(name, type=positive, action=Once, metavar=unit, help=text)


def add_changes(parser: argparse.ArgumentParser) -> None:
    """Add ``-S``, which may be repeated."""
    parser.add_argument(
        "-S", metavar="KEY=VALUE", action="append", default=[],
        help="change a parameter of params.yaml for this command, such as grid.seeds=[0]; may be repeated",
    )  # fmt: skip
