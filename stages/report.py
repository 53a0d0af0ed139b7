"""Write the tables and plots of the current grid to reports/<study>."""

from imix import paths, store
from imix.errors import exit_cleanly
from imix.reporting import cost, results, writing
from imix.schema import entry
from imix.settings import files
from imix.settings.study import Grid
from stages import REPORTS, announce, arguments

FILES = results.Files(
    metrics=lambda cell, seed: paths.metrics(paths.Cell(*cell)) / f"{seed}.json",
    history=lambda cell, seed: paths.histories(paths.Cell(*cell)) / f"{seed}.csv",
    baseline=lambda dataset, kind, seed: paths.baseline(dataset) / kind / f"{seed}.json",
    transfer=lambda source, cell, seed: paths.metrics(paths.Cell(*cell), source) / f"{seed}.json",
    settings=lambda cell: paths.SETTINGS / paths.Cell(*cell).path.with_suffix(".json"),
    evaluation=lambda dataset: paths.SETTINGS / dataset / "evaluate.json",
    card=lambda dataset: paths.baseline(dataset) / "card.json",
)


def main() -> None:
    """Report on the current grid."""
    name, grid = arguments(__doc__, "study").study, Grid.model_validate(files.read("grid")["settings"])
    entry({grid.name: grid}, name, "--study: grid.name")
    folder = REPORTS / name
    announce(f"report {name}", "tables and plots", folder)
    study = results.collect(grid, FILES, files.read("transfer")["settings"]["pairs"])
    record = results.record(grid, FILES, study.cards)
    # cost.json is no out of the stage: seconds and machines differ from one run to the next
    costs = cost.collect(results.encoders(study.origins), store.root() / "records")
    writing.write_study(folder, study, record, costs)


if __name__ == "__main__":
    exit_cleanly(main)
