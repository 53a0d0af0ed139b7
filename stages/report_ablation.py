"""Write the table and plot of one ablation: reports/<study>/ablations/<ablation>.md, .csv, .png, .svg.

It writes no other file.
"""

from imix import paths
from imix.errors import exit_cleanly
from imix.reporting import ablations, writing
from imix.settings import files
from stages import REPORTS, announce, arguments, grid_of


def main() -> None:
    """Report on one ablation."""
    args = arguments(__doc__, "study", "ablation")
    name, grid = args.ablation, grid_of(args.study)
    asked = ablations.Asked(**files.read("ablations", name, "asked")["settings"])
    folder = REPORTS / args.study / "ablations"
    announce(f"report_ablation {name}", "table and plot", folder / f"{name}.md")
    source = paths.DATA / "ablations" / name
    table, curves = ablations.collect(asked, source), ablations.histories(asked, source)
    writing.write_ablation(folder, asked, table, grid.methods, curves)


if __name__ == "__main__":
    exit_cleanly(main)
