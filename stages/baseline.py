"""Judge raw inputs, an untrained encoder and one trained with labels by the same probe.

Writes data/metrics/<dataset>/baseline/<kind>/<seed>.json.
"""

from imix import settings
from imix.errors import exit_cleanly
from stages import DATA, arguments, encoder_folder, metrics_file, say


def main() -> None:
    """Evaluate the baselines of one data set with one seed."""
    args = arguments(__doc__, "dataset", "seed")
    asked = settings.read(settings.Evaluation, args.dataset, "baseline")

    from torch import nn

    from imix import checkpoints, resuming, runtime
    from imix.datasets import load
    from imix.evaluation import judge
    from imix.files import write_json

    labelled = (args.dataset, *settings.SUPERVISED, args.seed)
    resuming.forget(*labelled)
    say(f"baseline {args.dataset} {args.seed}", "raw inputs, an untrained encoder and one trained with labels", DATA / "metrics")
    device = runtime.configure(args.seed)
    dataset = load(DATA / args.dataset / "tensors", device)
    untrained, _ = checkpoints.build(asked, dataset)
    supervised, _ = checkpoints.load(encoder_folder(*labelled) / "encoder.safetensors", dataset)
    for kind, encoder in {"raw": nn.Flatten(), "untrained": untrained, "supervised": supervised}.items():
        write_json(metrics_file(args.dataset, "baseline", kind, args.seed), judge(encoder, dataset, asked, args.seed))


if __name__ == "__main__":
    exit_cleanly(main)
