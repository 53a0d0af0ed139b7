"""Judge one encoder on frozen features: data/metrics/<dataset>/<method>/<mix>/<seed>.json."""

from imix import settings
from imix.errors import exit_cleanly
from stages import DATA, arguments, encoder_folder, metrics_file, say


def main() -> None:
    """Evaluate one cell with one seed."""
    args = arguments(__doc__, "dataset", "method", "mix", "seed")
    asked = settings.read(settings.Evaluation, args.dataset, "evaluate")

    from imix import checkpoints, resuming, runtime
    from imix.datasets import load
    from imix.evaluation import judge
    from imix.files import write_json

    identity = (args.dataset, args.method, args.mix, args.seed)
    resuming.forget(*identity)
    target = metrics_file(*identity)
    say("evaluate " + " ".join(map(str, identity)), "linear evaluation, kNN, collapse", target)
    device = runtime.configure(args.seed)
    dataset = load(DATA / args.dataset / "tensors", device)
    encoder, _ = checkpoints.load(encoder_folder(*identity) / "encoder.safetensors", dataset)
    write_json(target, judge(encoder, dataset, asked, args.seed))


if __name__ == "__main__":
    exit_cleanly(main)
