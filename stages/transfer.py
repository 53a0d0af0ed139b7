"""Judge an encoder on a data set that it was not pretrained on: data/metrics/<data set>/from_<pretrained on>/<method>/<mix>/<seed>.json."""

from imix import settings
from imix.errors import exit_cleanly
from stages import DATA, arguments, encoder_folder, say, transfer_file


def main() -> None:
    """Evaluate one encoder on one other data set."""
    args = arguments(__doc__, "pretrained_on", "probed_on", "method", "mix", "seed")
    asked = settings.read(settings.Evaluation, args.probed_on, "transfer")

    from imix import checkpoints, runtime
    from imix.datasets import load
    from imix.evaluation import judge
    from imix.files import write_json

    cell = (args.method, args.mix, args.seed)
    target = transfer_file(args.pretrained_on, args.probed_on, *cell)
    say("transfer " + " ".join(map(str, (args.pretrained_on, args.probed_on, *cell))), "linear evaluation, kNN, collapse", target)
    device = runtime.configure(args.seed)
    dataset = load(DATA / args.probed_on / "tensors", device)
    encoder, _ = checkpoints.load(encoder_folder(args.pretrained_on, *cell) / "encoder.safetensors", dataset)
    write_json(target, judge(encoder, dataset, asked, args.seed))


if __name__ == "__main__":
    exit_cleanly(main)
