"""Write the tables and plots of the current grid to reports/<study>."""

from pathlib import Path

from imix import settings, store
from imix.errors import exit_cleanly
from imix.files import write_bytes, write_json
from imix.reporting import cost, page, plots, results, statistics
from imix.schema import entry
from stages import REPORTS, arguments, say

DATA = Path("data")


def files() -> results.Files:
    """Return where the other stages write what the report reads."""
    metrics, resolved = DATA / "metrics", DATA / "settings"
    return results.Files(
        metrics=lambda cell, seed: metrics.joinpath(*cell, f"{seed}.json"),
        history=lambda cell, seed: DATA.joinpath("histories", *cell, f"{seed}.csv"),
        baseline=lambda dataset, kind, seed: metrics / dataset / "baseline" / kind / f"{seed}.json",
        transfer=lambda source, cell, seed: metrics.joinpath(cell[0], f"from_{source}", *cell[1:], f"{seed}.json"),
        settings=lambda cell: resolved.joinpath(*cell[:-1], f"{cell[-1]}.json"),
        evaluation=lambda dataset: resolved / dataset / "evaluation.json",
        card=lambda dataset: DATA / dataset / "tensors" / "card.json",
    )


def main() -> None:
    """Report on the current grid."""
    name, grid = arguments(__doc__, "study").study, settings.read_grid()
    entry({grid.name: grid}, name, "--study: grid.name")
    folder = REPORTS / name
    say(f"report {name}", "tables and plots", folder)
    pairs = results.read_json(DATA / "settings/transfer.json", "settings")["settings"]["pairs"]
    study = results.collect(grid, files(), pairs)
    write_bytes(folder / "results.csv", results.csv_bytes(study.results))
    write_bytes(folder / "transfer.csv", results.csv_bytes(study.transfers))
    write_bytes(folder / "results.md", page.results_page(name, study).encode())
    write_json(folder / "settings.json", results.record(grid, files(), study.cards))
    write_json(folder / "metrics.json", statistics.summary(study.results))
    plots.write(plots.plot_gains(study.results), folder / "gains.png")
    plots.write(plots.plot_curves(study.histories), folder / "curves.png")
    # no out of the stage: seconds and machines differ from one run to the next
    write_json(folder / "cost.json", cost.collect(results.encoders(study.origins), store.records()))


if __name__ == "__main__":
    exit_cleanly(main)
