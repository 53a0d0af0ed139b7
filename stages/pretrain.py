"""Train a cell with all its seeds: data/encoders/<cell>/ and data/histories/<cell>/."""

from imix import paths, running
from imix.errors import exit_cleanly
from imix.settings import files
from stages import announce, arguments


def main() -> None:
    """Train one cell."""
    cell = paths.Cell(**vars(arguments(__doc__, *paths.Cell._fields)))
    asked = files.read(*cell)
    label, code = f"pretrain {cell}", asked["code"]["training"]
    announce(label, f"{len(asked['seeds'])} seeds", paths.encoders(cell), paths.histories(cell))
    tasks = [
        running.Task(f"{cell} seed {seed}", "imix.jobs:train", (cell, asked["settings"], code, seed))
        for seed in asked["seeds"]
    ]
    modules = [f"imix.views.{asked['domain']}", f"imix.methods.{cell.method}"]
    running.run(label, tasks, ["imix.preload", "imix.jobs", *modules])


if __name__ == "__main__":
    exit_cleanly(main)
