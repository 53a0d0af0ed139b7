"""Render tables and plots of the current grid into reports/<study>, and refresh the README's table of it."""

from pathlib import Path

from imix import settings
from imix.errors import UserError, exit_cleanly
from imix.files import metrics_file, training_folder, write_bytes, write_json
from imix.reporting import plots, results, tables
from stages import REPORTS, arguments, say

README = Path("README.md")


def refreshed(readme: str, study: str, block: str) -> str:
    """The README with ``block`` between the study's markers; as it is if it has none for this study.

    Raises:
        UserError: one marker without the other, or twice.
    """
    start, end = f"<!-- results of {study} -->\n", f"<!-- end of {study} -->\n"
    counts = readme.count(start), readme.count(end)
    if counts == (0, 0):
        return readme
    if counts != (1, 1):
        raise UserError(f"{README}: must have the lines {start.strip()} and {end.strip()} once each")
    before, rest = readme.split(start)
    return before + start + "\n" + block + "\n" + end + rest.split(end)[1]


def main() -> None:
    """Report on the current grid."""
    study, grid = arguments(__doc__, "study").study, settings.read(settings.Grid, "grid")
    settings.entry({grid.name: grid}, study, "--study: grid.name")
    folder = REPORTS / study
    try:
        readme = README.read_text(encoding="utf-8")
        refreshed(readme, grid.name, "")  # refused, if it is, before anything is written
    except (OSError, ValueError) as error:
        raise UserError(f"{README}: cannot be read ({error})") from None
    say(f"report {grid.name}", "tables and plots", folder)
    table, histories, cards = results.collect(grid, metrics_file, training_folder)
    transfers = results.collect_transfer(grid, settings.read(settings.Transfer, "transfer"), metrics_file)
    write_bytes(folder / "results.csv", table.to_csv(index=False, lineterminator="\n").encode())
    write_bytes(folder / "transfer.csv", transfers.to_csv(index=False, lineterminator="\n").encode())
    write_bytes(folder / "results.md", tables.results_page(table, transfers, grid, cards).encode())
    write_json(folder / "settings.json", results.record(grid, metrics_file, training_folder, settings.FOLDER / "code.json"))
    write_json(folder / "metrics.json", results.summary(table))
    plots.write(plots.plot_gains(table), folder / "gains.png")
    plots.write(plots.plot_curves(histories), folder / "curves.png")
    write_bytes(README, refreshed(readme, grid.name, tables.readme_block(table, grid)).encode())


if __name__ == "__main__":
    exit_cleanly(main)
