"""Write the table and plot of one ablation: reports/ablations/<ablation>.md, .csv, .png and .svg; no other file."""

from pathlib import Path

from imix import settings
from imix.errors import exit_cleanly
from imix.files import write_bytes
from imix.reporting import ablations, plots, results
from stages import REPORTS, arguments, say

DATA = Path("data/ablations")


def main() -> None:
    """Report on one ablation."""
    name, grid = arguments(__doc__, "ablation").ablation, settings.read_grid()
    asked = ablations.Asked(**settings.read_ablation(name))
    target = REPORTS / "ablations" / name
    say(f"report_ablation {name}", "table and plots", target.with_suffix(".md"))
    table = ablations.collect(asked, DATA / name)
    write_bytes(target.with_suffix(".csv"), results.csv_bytes(table))
    write_bytes(target.with_suffix(".md"), ablations.page(asked, table).encode())
    plots.write(ablations.plot(table, asked.axis, grid.methods), target.with_suffix(".png"))


if __name__ == "__main__":
    exit_cleanly(main)
