"""Judge raw inputs, an untrained encoder and one trained with labels by the same probe, with every seed of the latter.

Writes data/metrics/<dataset>/baseline/<kind>/<seed>.json.
"""

from imix import settings
from imix.errors import exit_cleanly
from stages import DATA, arguments, encoders, metrics_file, metrics_folder, say, tell


def main() -> None:
    """Evaluate the baselines of one data set."""
    args = arguments(__doc__, "dataset")
    asked = settings.read(settings.Evaluation, args.dataset, "baseline", code="baseline")
    labelled = (args.dataset, *settings.SUPERVISED)
    trained = encoders(*labelled)

    import torch
    from torch import nn

    from imix import checkpoints, resuming, runtime
    from imix.datasets import load
    from imix.evaluation import judge
    from imix.files import write_json

    label = f"baseline {args.dataset}"
    say(label, "raw inputs, an untrained encoder and one trained with labels", metrics_folder(args.dataset, "baseline"))
    dataset = load(DATA / args.dataset / "tensors", runtime.configure())
    for seed, path in trained.items():
        resuming.forget(*labelled, seed)
        torch.manual_seed(seed)
        untrained, _ = checkpoints.build(asked, dataset)
        supervised, _ = checkpoints.load(path, dataset)
        for kind, encoder in {"raw": nn.Flatten(), "untrained": untrained, "supervised": supervised}.items():
            figures = judge(encoder, dataset, asked, seed)
            write_json(metrics_file(args.dataset, "baseline", kind, seed), figures)
            tell(f"{label} {kind}", seed, figures)


if __name__ == "__main__":
    exit_cleanly(main)
