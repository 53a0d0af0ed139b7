"""Judge raw inputs, an untrained encoder and one trained with labels by the same probe.

Writes data/metrics/<dataset>/baseline/<kind>/<seed>.json.
"""

from imix import settings
from imix.errors import exit_cleanly
from stages import DATA, arguments, encoder_folder, metrics_file, say


def main() -> None:
    """Evaluate the baselines of one data set with one seed."""
    args = arguments(__doc__, "dataset", "seed")
    domain, probe = settings.read(settings.Domain, args.dataset, "domain"), settings.read(settings.Probe, args.dataset, "probe")

    from torch import nn

    from imix import checkpoints, runtime
    from imix.datasets import load
    from imix.evaluation import evaluate
    from imix.files import write_json

    targets = {kind: metrics_file(args.dataset, "baseline", kind, args.seed) for kind in ("raw", "untrained", "supervised")}
    say(f"baseline {args.dataset} {args.seed}", "raw inputs, an untrained encoder and one trained with labels", list(targets.values()))
    dataset = load(DATA / args.dataset / "tensors", runtime.configure(args.seed))
    untrained, views = checkpoints.build(domain, dataset)
    labelled, _ = checkpoints.load(encoder_folder(args.dataset, *settings.SUPERVISED, args.seed) / "encoder.safetensors", dataset)
    for kind, encoder in {"raw": nn.Flatten(), "untrained": untrained, "supervised": labelled}.items():
        write_json(targets[kind], evaluate(encoder, views, dataset, probe, args.seed))


if __name__ == "__main__":
    exit_cleanly(main)
