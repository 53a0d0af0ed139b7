"""Judge a cell's encoders on frozen features, every seed's: data/metrics/<dataset>/<method>/<mix>."""

from imix import settings
from imix.errors import exit_cleanly
from stages import DATA, arguments, encoders, metrics_file, metrics_folder, say, tell


def main() -> None:
    """Evaluate one cell."""
    args = arguments(__doc__, "dataset", "method", "mix")
    asked = settings.read(settings.Evaluation, args.dataset, "evaluate", code="evaluate")
    cell = (args.dataset, args.method, args.mix)
    trained = encoders(*cell)

    from imix import checkpoints, resuming, runtime
    from imix.datasets import load
    from imix.evaluation import judge
    from imix.files import write_json

    label = "evaluate " + " ".join(cell)
    say(label, "linear evaluation, kNN, collapse", metrics_folder(*cell))
    dataset = load(DATA / args.dataset / "tensors", runtime.configure())
    for seed, path in trained.items():
        resuming.forget(*cell, seed)
        encoder, _ = checkpoints.load(path, dataset)
        figures = judge(encoder, dataset, asked, seed)
        write_json(metrics_file(*cell, seed), figures)
        tell(label, seed, figures)


if __name__ == "__main__":
    exit_cleanly(main)
