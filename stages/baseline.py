"""Judge raw inputs, an untrained encoder and one trained with labels by the same probe, with every seed of the latter.

Writes data/metrics/<dataset>/baseline/<kind>/<seed>.json.
"""

from imix import settings
from imix.errors import exit_cleanly
from imix.files import DATA, baseline_folder, encoder_folder, write_json
from stages import arguments, say, tell


def main() -> None:
    """Evaluate the baselines of one data set."""
    args = arguments(__doc__, "dataset")
    asked = settings.read(settings.Evaluation, args.dataset, "baseline", code="baseline")

    import torch
    from torch import nn

    from imix import checkpoints, resuming, runtime
    from imix.datasets import load
    from imix.evaluation import judge

    cell = (args.dataset, *settings.SUPERVISED)
    encoders = checkpoints.seeds(encoder_folder(*cell))
    label, target = f"baseline {args.dataset}", baseline_folder(args.dataset)
    say(label, "raw inputs, an untrained encoder and one trained with labels", target)
    dataset = load(DATA / args.dataset / "tensors", runtime.configure())
    for seed, path in encoders.items():
        resuming.forget(*cell, seed)
        torch.manual_seed(seed)
        untrained, _ = checkpoints.build(asked, dataset)
        supervised, _ = checkpoints.load(path, dataset)
        for kind, encoder in {"raw": nn.Flatten(), "untrained": untrained, "supervised": supervised}.items():
            figures = judge(encoder, dataset, asked, seed)
            write_json(target / kind / f"{seed}.json", figures)
            tell(f"{label} {kind}", seed, figures)


if __name__ == "__main__":
    exit_cleanly(main)
