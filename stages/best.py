"""Copy a data set's best encoder, by validation rows, to data/best, with a model card."""

from imix import paths
from imix.errors import exit_cleanly
from imix.reporting import best
from imix.reporting.results import read_json
from imix.settings import files
from imix.settings.study import Grid
from stages import announce, arguments


def main() -> None:
    """Choose and copy the encoder of one data set."""
    name, grid = arguments(__doc__, "dataset").dataset, Grid.model_validate(files.read("grid")["settings"])
    target = paths.best(name)
    announce(f"best {name}", "the best encoder by validation rows, and its card", target, target.with_suffix(".md"))
    cells = [cell for cell in grid.cells() if cell.dataset == name]
    choice = best.choose(cells, grid.seeds, paths.DATA / "metrics")
    encoder = paths.encoders(choice.cell) / f"{choice.seed}.safetensors"
    data = read_json(paths.baseline(name) / "card.json", "origin", "rows", "carved", "classes", "shape", "dtype")
    settings = read_json(paths.SETTINGS / choice.cell.path.with_suffix(".json"), "settings")["settings"]
    best.write(target, encoder, best.card(grid.name, choice, data, settings, encoder))


if __name__ == "__main__":
    exit_cleanly(main)
