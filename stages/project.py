"""Draw the test features of a data set's encoders in two dimensions: reports/projections/<dataset>.png, .svg."""

from imix import settings
from imix.errors import exit_cleanly
from imix.files import DATA, encoder_file
from stages import REPORTS, arguments, say


def main() -> None:
    """Draw one data set."""
    name = arguments(__doc__, "dataset").dataset
    grid, projection = settings.read(settings.Grid, "grid"), settings.read(settings.Projection, "projection")

    from sklearn.manifold import TSNE

    from imix import checkpoints, runtime
    from imix.datasets import load
    from imix.features import evenly, extract
    from imix.reporting import plots

    target, seed = REPORTS / "projections" / f"{name}.png", grid.seeds[0]
    say(f"project {name}", "t-SNE of test features", target)
    dataset = load(DATA / name / "tensors", runtime.configure())
    rows, labels = evenly(dataset.test, projection.rows), evenly(dataset.test_labels, projection.rows)
    perplexity, panels = min(projection.perplexity, len(rows) / 3), {}
    for method in grid.methods:
        for mix in grid.mixes:
            encoder, views = checkpoints.load(encoder_file(name, method, mix, seed), dataset)
            features = extract(encoder, views, rows).cpu().numpy()
            panels[method, mix] = TSNE(perplexity=perplexity, init="pca", random_state=projection.seed).fit_transform(features)
    plots.write(plots.plot_projections(panels, labels.cpu().numpy(), dataset.classes, f"{name}: test features, t-SNE, seed {seed}"), target)


if __name__ == "__main__":
    exit_cleanly(main)
