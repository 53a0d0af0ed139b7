"""Render tables and plots of the current grid into reports/, and refresh the README's table."""

from pathlib import Path

from imix import settings
from imix.errors import UserError, exit_cleanly
from imix.files import write_bytes, write_json
from imix.reporting import plots, results, tables
from stages import encoder_folder, metrics_file, say

REPORTS = Path("reports")
README = Path("README.md")
MARKERS = ("<!-- results: made by the report stage -->\n", "<!-- end of results -->")


def refreshed(readme: str, block: str) -> str:
    """The README with ``block`` between its markers.

    Raises:
        UserError: the markers are not there.
    """
    if any(readme.count(marker) != 1 for marker in MARKERS):
        raise UserError(f"{README}: must have the lines {' and '.join(marker.strip() for marker in MARKERS)} once each")
    before, rest = readme.split(MARKERS[0])
    return before + MARKERS[0] + "\n" + block + "\n" + MARKERS[1] + rest.split(MARKERS[1])[1]


def main() -> None:
    """Report on the current grid."""
    grid = settings.load().grid
    say("report", "tables and plots", REPORTS)
    table, histories = results.collect(grid, metrics_file, encoder_folder)
    write_bytes(REPORTS / "results.csv", table.to_csv(index=False, lineterminator="\n").encode())
    write_bytes(REPORTS / "results.md", tables.results_page(table, grid).encode())
    write_json(REPORTS / "metrics.json", results.summary(table))
    plots.write(plots.plot_gains(table), REPORTS / "gains.png")
    plots.write(plots.plot_curves(histories), REPORTS / "curves.png")
    write_bytes(README, refreshed(README.read_text(encoding="utf-8"), tables.readme_block(table, grid)).encode())


if __name__ == "__main__":
    exit_cleanly(main)
