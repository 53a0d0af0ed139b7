"""Draw the test features of a data set's encoders in two dimensions: reports/projections/<dataset>.png, .svg."""

import itertools
from pathlib import Path

from imix import settings
from imix.errors import exit_cleanly
from stages import REPORTS, arguments, say

DATA = Path("data")


def main() -> None:
    """Draw one data set."""
    name, grid, projection = arguments(__doc__, "dataset").dataset, settings.read_grid(), settings.read_projection()

    from imix import checkpoints, dataset, features, runtime
    from imix.reporting import plots, projections

    target, seed = REPORTS / "projections" / f"{name}.png", grid.seeds[0]
    say(f"project {name}", "t-SNE of test features", target)
    data = dataset.load(DATA / name / "tensors", runtime.configure())
    rows, labels = (features.evenly(tensor, projection.rows) for tensor in (data.test, data.test_labels))
    points = {}
    for column in itertools.product(grid.augmentation, grid.methods, grid.mixes):
        encoder, views = checkpoints.load(DATA.joinpath("encoders", name, *column, f"{seed}.safetensors"), data)
        found = features.extract(encoder, views, rows).cpu().numpy()
        points[column] = projections.project(found, projection.perplexity, projection.seed)
    title = f"{name}: test features, t-SNE, seed {seed}"
    plots.write(projections.plot(points, labels.cpu().numpy(), data.classes, title), target)


if __name__ == "__main__":
    exit_cleanly(main)
