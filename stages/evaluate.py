"""Evaluate a cell's encoders on frozen features: data/metrics/<cell>/<seed>.json.

With ``--pretrained_on``, evaluate the encoders of another data set.
"""

from imix import paths, running
from imix.errors import UserError, exit_cleanly
from imix.settings import files
from stages import announce, arguments


def main() -> None:
    """Evaluate one cell."""
    args = arguments(__doc__, *paths.Cell._fields, optional=["pretrained_on"])
    source = args.pretrained_on or args.dataset
    if args.pretrained_on == args.dataset:
        raise UserError(f"--pretrained_on = {source!r}: must be another data set than --dataset")
    asked = files.read(args.dataset, "evaluate")
    cell = paths.Cell(args.dataset, args.augmentation, args.method, args.mix)
    encoders = paths.encoder_files(cell._replace(dataset=source))
    target = paths.metrics(cell, args.pretrained_on)
    label = f"evaluate {cell}" + (f" pretrained on {source}" if args.pretrained_on else "")
    announce(label, "linear evaluation, kNN, collapse", target)
    # of every task: settings, and the fingerprint of the code, for the store's key
    given = asked["settings"], asked["code"]["evaluation"]
    tasks = [
        running.Task(
            f"{label} seed {seed}", "imix.jobs:evaluate", (path, cell.dataset, *given, seed, target / f"{seed}.json")
        )
        for seed, path in encoders.items()
    ]
    running.run(label, tasks, ["imix.jobs", f"imix.views.{asked['settings']['kind']}"])


if __name__ == "__main__":
    exit_cleanly(main)
