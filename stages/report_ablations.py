"""Render the tables and plots of all ablations: reports/ablations.md, and a .csv, .png and .svg each in reports/ablations."""

import pandas as pd

from imix import settings
from imix.errors import exit_cleanly
from imix.files import ablation_folder, write_bytes
from imix.reporting import ablations, plots
from stages import REPORTS, arguments, say


def main() -> None:
    """Report on what ran."""
    arguments(__doc__)
    chosen = settings.read(settings.Ablations, "asked", folder=settings.ABLATIONS)
    folder, page = REPORTS / "ablations", REPORTS / "ablations.md"
    say("report ablations", "tables and plots" if chosen.run else "none asked for; what is there stays", [page, folder])
    folder.mkdir(parents=True, exist_ok=True)
    if not chosen.run and page.exists():
        return
    sections, old = [], set(folder.iterdir())
    for name in chosen.run:
        asked = {dataset: settings.read(settings.Variants, name, dataset, folder=settings.ABLATIONS) for dataset in chosen.datasets}
        tables = {dataset: ablations.collect(name, dataset, variants, chosen.seeds, ablation_folder) for dataset, variants in asked.items()}
        question = asked[chosen.datasets[0]]
        write_bytes(folder / f"{name}.csv", pd.concat(tables.values()).to_csv(index=False, lineterminator="\n").encode())
        plots.write(ablations.plot(tables, question.axis), folder / f"{name}.png")
        sections.append(ablations.section(name, question, tables))
    write_bytes(page, ablations.page(sections).encode())
    for path in old:
        if path.stem not in chosen.run:
            path.unlink()


if __name__ == "__main__":
    exit_cleanly(main)
