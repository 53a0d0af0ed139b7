"""Show a data set: some rows, their views and mixtures, and its encoders' test features in two dimensions.

Writes reports/<study>/projections/<dataset>.png and .svg, and data/shown/<dataset> for the page of the study.
"""

import tempfile
from pathlib import Path

import numpy as np

from imix import dataset, domains, features, paths, running, runtime
from imix.errors import exit_cleanly
from imix.reporting import illustrations, plots, projections
from imix.settings import files
from stages import REPORTS, announce, arguments, grid_of


def main() -> None:
    """Show one data set."""
    args = arguments(__doc__, "study", "dataset")
    name, grid, asked = args.dataset, grid_of(args.study), files.read("projection")["settings"]
    target, seed = REPORTS / args.study / "projections" / f"{name}.png", grid.seeds[0]
    shown, label = paths.shown(name), f"project {name}"
    announce(label, "rows, views, mixtures, and t-SNE of test features", target, shown)
    data, evaluation = dataset.load(paths.tensors(name), runtime.configure()), files.read(name, "evaluate")["settings"]
    domain = domains.domain_class(data.kind)
    settings = domain.model_validate({key: evaluation[key] for key in domain.model_fields}).views
    views = domains.make_views(data.kind, settings, data)
    illustrations.write(shown, data, views, files.read(name, "mixing")["settings"]["alpha"], asked["seed"])
    with tempfile.TemporaryDirectory() as folder:
        files_of = {cell: Path(folder, f"{'-'.join(cell)}.npy") for cell in grid.cells() if cell.dataset == name}
        tasks = [
            running.Task(
                f"t-SNE of {cell} seed {seed}",
                "imix.reporting.projections:embed",
                (paths.encoders(cell) / f"{seed}.safetensors", name, asked, path),
            )
            for cell, path in files_of.items()
        ]
        running.run(label, tasks, ["imix.reporting.projections", "sklearn.manifold", f"imix.views.{data.kind}"])
        points = {cell[1:]: np.load(path) for cell, path in files_of.items()}
    labels = features.random_subset(data.test_labels, asked["rows"]).cpu().numpy()
    projections.write_points(shown, points, labels, data.classes)
    title = f"{name}: test features, t-SNE, seed {seed}"
    plots.write(projections.plot(points, labels, data.classes, title), target)


if __name__ == "__main__":
    exit_cleanly(main)
