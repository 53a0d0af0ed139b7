"""Judge a cell's encoders on a data set that they were not pretrained on: data/metrics/<dataset>/from_<pretrained on>/<method>/<mix>."""

from imix import settings
from imix.errors import exit_cleanly
from stages import DATA, arguments, encoders, metrics_file, metrics_folder, say, tell


def main() -> None:
    """Evaluate one cell on one other data set."""
    args = arguments(__doc__, "pretrained_on", "probed_on", "method", "mix")
    asked = settings.read(settings.Evaluation, args.probed_on, "transfer", code="transfer")
    trained = encoders(args.pretrained_on, args.method, args.mix)

    from imix import checkpoints, runtime
    from imix.datasets import load
    from imix.evaluation import judge
    from imix.files import write_json

    cell = (args.probed_on, args.method, args.mix)
    label = f"transfer {args.pretrained_on} " + " ".join(cell)
    say(label, "linear evaluation, kNN, collapse", metrics_folder(*cell, pretrained_on=args.pretrained_on))
    dataset = load(DATA / args.probed_on / "tensors", runtime.configure())
    for seed, path in trained.items():
        encoder, _ = checkpoints.load(path, dataset)
        figures = judge(encoder, dataset, asked, seed)
        write_json(metrics_file(*cell, seed, pretrained_on=args.pretrained_on), figures)
        tell(label, seed, figures)


if __name__ == "__main__":
    exit_cleanly(main)
