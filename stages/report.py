"""Write the tables and plots of the current grid to reports/<study>."""

from pathlib import Path

from imix import settings, store
from imix.errors import exit_cleanly
from imix.reporting import cost, results, writing
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
    record = results.record(grid, files(), study.cards)
    # cost.json is no out of the stage: seconds and machines differ from one run to the next
    costs = cost.collect(results.encoders(study.origins), store.records())
    writing.write_study(folder, study, record, costs)


if __name__ == "__main__":
    exit_cleanly(main)
