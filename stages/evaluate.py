"""Judge a cell's encoders on frozen features, every seed's: data/metrics/<dataset>/<method>/<mix>/<seed>.json.

With ``--pretrained_on`` those of another data set: data/metrics/<dataset>/from_<pretrained on>/<method>/<mix>/<seed>.json.
"""

from imix import settings
from imix.errors import UserError, exit_cleanly
from imix.files import DATA, encoder_folder, metrics_folder, write_json
from stages import arguments, say, tell


def main() -> None:
    """Evaluate one cell."""
    args = arguments(__doc__, "dataset", "method", "mix", optional=["pretrained_on"])
    if args.pretrained_on == args.dataset:
        raise UserError(f"--pretrained_on = {args.dataset!r}: must be another data set than --dataset")
    asked = settings.read(settings.Evaluation, args.dataset, "evaluate", code="evaluate")

    from imix import checkpoints, resuming, runtime
    from imix.datasets import load
    from imix.evaluation import judge

    cell = (args.pretrained_on or args.dataset, args.method, args.mix)
    encoders = checkpoints.seeds(encoder_folder(*cell))
    label = f"evaluate {' '.join(cell)}" + (f" on {args.dataset}" if args.pretrained_on else "")
    target = metrics_folder(args.dataset, args.method, args.mix, args.pretrained_on)
    say(label, "linear evaluation, kNN, collapse", target)
    dataset = load(DATA / args.dataset / "tensors", runtime.configure())
    for seed, path in encoders.items():
        resuming.forget(*cell, seed)
        encoder, _ = checkpoints.load(path, dataset)
        figures = judge(encoder, dataset, asked, seed)
        write_json(target / f"{seed}.json", figures)
        tell(label, seed, figures)


if __name__ == "__main__":
    exit_cleanly(main)
