"""Render the tables and the plot of one ablation: reports/ablations/<ablation>.md, .csv, .png, .svg."""

import pandas as pd

from imix import settings
from imix.errors import exit_cleanly
from imix.files import write_bytes
from imix.reporting import ablations, plots
from stages import REPORTS, ablation_folder, arguments, say


def main() -> None:
    """Report on one ablation."""
    name = arguments(__doc__, "ablation").ablation
    chosen = settings.read(settings.Ablations, "ablations")
    asked = {dataset: settings.read(settings.Variants, "ablations", name, dataset) for dataset in chosen.datasets}
    folder = REPORTS / "ablations"
    say(f"report {name}", "tables and plot", folder)
    tables = {dataset: ablations.collect(name, dataset, variants, chosen.seeds, ablation_folder) for dataset, variants in asked.items()}
    question = asked[chosen.datasets[0]]
    write_bytes(folder / f"{name}.csv", pd.concat(tables.values()).to_csv(index=False, lineterminator="\n").encode())
    write_bytes(folder / f"{name}.md", ablations.page(name, question, tables).encode())
    plots.write(ablations.plot(tables, question.axis), folder / f"{name}.png")


if __name__ == "__main__":
    exit_cleanly(main)
