"""Tables on the command line: with `rich` on a terminal, plain text when piped."""

import sys
from collections.abc import Sequence


def show_table(heads: Sequence[str], rows: Sequence[Sequence[str]], total: bool = False) -> None:
    """Print a table.

    Args:
        heads: of the columns; one that begins with ``>`` is of numbers, set flush right. total: the
            last row is a sum.
    """
    if sys.stdout.isatty():
        _show_rich(heads, rows, total)
    else:
        print(plain(heads, rows), end="")


def plain(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as aligned text, a line per row."""
    right = [head.startswith(">") for head in heads]
    lines = [[head.removeprefix(">") for head in heads], *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    lines = [
        [
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(line, widths, right, strict=True)
        ]
        for line in lines
    ]
    return "".join("  ".join(line).rstrip() + "\n" for line in lines)


def _show_rich(heads: Sequence[str], rows: Sequence[Sequence[str]], total: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_footer=False)
    for head in heads:
        table.add_column(head.removeprefix(">"), justify="right" if head.startswith(">") else "left")
    for number, row in enumerate(rows):
        last = total and number == len(rows) - 1
        table.add_row(*map(Text, row), style="bold" if last else "", end_section=total and number == len(rows) - 2)
    Console().print(table)
