"""Judge raw inputs, an untrained encoder and one trained with labels by the same probe.

Writes data/metrics/<dataset>/baseline/<kind>/<seed>.json.
"""

from imix import settings
from imix.errors import exit_cleanly
from stages import DATA, arguments, encoder_folder, metrics_file, say


def main() -> None:
    """Evaluate the baselines of one data set with one seed."""
    args = arguments(__doc__, "dataset", "seed")
    asked = settings.read(settings.Evaluation, args.dataset, "evaluation")

    from torch import nn

    from imix import checkpoints, resuming, runtime
    from imix.datasets import load
    from imix.evaluation import evaluate
    from imix.files import write_json

    labelled = (args.dataset, *settings.SUPERVISED, args.seed)
    resuming.forget(*labelled)
    say(f"baseline {args.dataset} {args.seed}", "raw inputs, an untrained encoder and one trained with labels", DATA / "metrics")
    device = runtime.configure(args.seed)
    dataset = load(DATA / args.dataset / "tensors", device)
    untrained, views = checkpoints.build(asked, dataset)
    supervised, _ = checkpoints.load(encoder_folder(*labelled) / "encoder.safetensors", dataset)
    made = {"evaluation": asked.model_dump(), "machine": runtime.machine(device)}
    for kind, encoder in {"raw": nn.Flatten(), "untrained": untrained, "supervised": supervised}.items():
        target = metrics_file(args.dataset, "baseline", kind, args.seed)
        write_json(target, evaluate(encoder, views, dataset, asked.probe, args.seed) | made)


if __name__ == "__main__":
    exit_cleanly(main)
