"""Write the page, tables and plots of the current grid to reports/<study>."""

from imix import paths, store
from imix.errors import exit_cleanly
from imix.reporting import ablations, cost, html, results, writing
from imix.settings import files
from stages import REPORTS, announce, arguments, grid_of

FILES = results.Files(
    metrics=lambda cell, seed: paths.metrics(paths.Cell(*cell)) / f"{seed}.json",
    history=lambda cell, seed: paths.histories(paths.Cell(*cell)) / f"{seed}.csv",
    baseline=lambda dataset, kind, seed: paths.baseline(dataset) / kind / f"{seed}.json",
    transfer=lambda source, cell, seed: paths.metrics(paths.Cell(*cell), source) / f"{seed}.json",
    settings=lambda cell: paths.SETTINGS / paths.Cell(*cell).path.with_suffix(".json"),
    evaluation=lambda dataset: paths.SETTINGS / dataset / "evaluate.json",
    card=lambda dataset: paths.baseline(dataset) / "card.json",
)


def ablated() -> list[html.Ablated]:
    """Return the ablations that ran, in the order of their names."""
    found = []
    for name in sorted(path.parent.name for path in paths.SETTINGS.glob("ablations/*/asked.json")):
        asked = ablations.Asked(**files.read("ablations", name, "asked")["settings"])
        folder = paths.DATA / "ablations" / name
        found.append(html.Ablated(asked, ablations.collect(asked, folder), ablations.histories(asked, folder)))
    return found


def main() -> None:
    """Report on the current grid."""
    name = arguments(__doc__, "study").study
    grid = grid_of(name)
    folder = REPORTS / name
    announce(f"report {name}", "page, tables and plots", folder)
    study = results.collect(grid, FILES, files.read("transfer")["settings"]["pairs"])
    record = results.record(grid, FILES, study.cards)
    # cost.json is no out of the stage: seconds and machines differ from one run to the next
    costs = cost.collect(results.encoders(study.origins), store.root() / "records")
    shown = {dataset: paths.shown(dataset) for dataset in grid.datasets}
    writing.write_study(folder, study, record, costs, shown, ablated())


if __name__ == "__main__":
    exit_cleanly(main)
