"""Write the table and plot of one ablation: reports/ablations/<ablation>.md, .csv, .png and .svg; no other file."""

from pathlib import Path

from imix import settings
from imix.errors import exit_cleanly
from imix.reporting import ablations, writing
from stages import REPORTS, arguments, say

DATA = Path("data/ablations")


def main() -> None:
    """Report on one ablation."""
    name = arguments(__doc__, "ablation").ablation
    asked = ablations.Asked(**settings.read_ablation(name))
    folder = REPORTS / "ablations"
    say(f"report_ablation {name}", "table and plot", folder / f"{name}.md")
    table = ablations.collect(asked, DATA / name)
    writing.write_ablation(folder, asked, table, settings.read_grid().methods)


if __name__ == "__main__":
    exit_cleanly(main)
