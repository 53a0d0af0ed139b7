"""Draw the test features of a data set's encoders in two dimensions: reports/projections/<dataset>.png, .svg."""

from imix import checkpoints, dataset, domains, features, paths, runtime
from imix.errors import exit_cleanly
from imix.reporting import plots, projections
from imix.settings import files
from imix.settings.study import Grid
from stages import REPORTS, announce, arguments


def main() -> None:
    """Draw one data set."""
    name = arguments(__doc__, "dataset").dataset
    grid, asked = Grid.model_validate(files.read("grid")["settings"]), files.read("projection")["settings"]
    target, seed = REPORTS / "projections" / f"{name}.png", grid.seeds[0]
    announce(f"project {name}", "t-SNE of test features", target)
    data, evaluation = dataset.load(paths.tensors(name), runtime.configure()), files.read(name, "evaluate")["settings"]
    domain = domains.domain_class(data.kind)
    views = domain.model_validate({key: evaluation[key] for key in domain.model_fields}).views
    clean = domains.make_views(data.kind, views, data).clean
    rows, labels = (features.random_subset(tensor, asked["rows"]) for tensor in (data.test, data.test_labels))
    points = {}
    for cell in (cell for cell in grid.cells() if cell.dataset == name):
        encoder, _ = checkpoints.load(paths.encoders(cell) / f"{seed}.safetensors", data)
        found = features.extract(encoder, rows, clean, data.device).cpu().numpy()
        points[cell[1:]] = projections.project(found, asked["perplexity"], asked["seed"])
    title = f"{name}: test features, t-SNE, seed {seed}"
    plots.write(projections.plot(points, labels.cpu().numpy(), data.classes, title), target)


if __name__ == "__main__":
    exit_cleanly(main)
