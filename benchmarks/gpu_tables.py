"""Tables of a folder of results: a row is on the disk, as CSV and as Markdown, as soon as it is added."""

import csv
import io
from pathlib import Path
from typing import Any

from imix.files import write_bytes


class Table:
    """A table in ``folder``/``name``.csv and .md."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path, self.rows = folder / f"{name}.csv", []

    def add(self, **row: Any) -> None:
        """Add a row, and write both files."""
        self.rows.append({key: rounded(value) for key, value in row.items()})
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_bytes(self.path, text.getvalue().encode())
        write_bytes(self.path.with_suffix(".md"), markdown(columns, self.rows).encode())
        print(" | ".join(str(self.rows[-1].get(key, "")) for key in columns), flush=True)


def rounded(value: Any) -> Any:
    """Return a float with four significant digits, anything else as it is."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def markdown(columns: list[str], rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table; empty cells where a row has no such column."""
    lines = [columns, ["---"] * len(columns), *([str(row.get(key, "")) for key in columns] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
