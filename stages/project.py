"""Show a data set: some rows, their views and mixtures, and its encoders' test features in two dimensions.

Writes reports/projections/<dataset>.png and .svg, and data/shown/<dataset> for the page of the study.
"""

from imix import checkpoints, dataset, domains, features, paths, runtime
from imix.errors import exit_cleanly
from imix.reporting import illustrations, plots, projections
from imix.settings import files
from imix.settings.study import Grid
from stages import REPORTS, announce, arguments


def main() -> None:
    """Show one data set."""
    name = arguments(__doc__, "dataset").dataset
    grid, asked = Grid.model_validate(files.read("grid")["settings"]), files.read("projection")["settings"]
    target, seed = REPORTS / "projections" / f"{name}.png", grid.seeds[0]
    shown = paths.shown(name)
    announce(f"project {name}", "rows, views, mixtures, and t-SNE of test features", target, shown)
    data, evaluation = dataset.load(paths.tensors(name), runtime.configure()), files.read(name, "evaluate")["settings"]
    domain = domains.domain_class(data.kind)
    settings = domain.model_validate({key: evaluation[key] for key in domain.model_fields}).views
    views = domains.make_views(data.kind, settings, data)
    rows, labels = (features.random_subset(tensor, asked["rows"]) for tensor in (data.test, data.test_labels))
    illustrations.write(shown, data, views, files.read(name, "mixing")["settings"]["alpha"], asked["seed"])
    points = {}
    for cell in (cell for cell in grid.cells() if cell.dataset == name):
        encoder, _ = checkpoints.load(paths.encoders(cell) / f"{seed}.safetensors", data)
        found = features.extract(encoder, rows, views.clean, data.device).cpu().numpy()
        points[cell[1:]] = projections.project(found, asked["perplexity"], asked["seed"])
    projections.write_points(shown, points, labels.cpu().numpy(), data.classes)
    title = f"{name}: test features, t-SNE, seed {seed}"
    plots.write(projections.plot(points, labels.cpu().numpy(), data.classes, title), target)


if __name__ == "__main__":
    exit_cleanly(main)
