"""Judge raw inputs and an untrained encoder by the same probe: data/metrics/<dataset>/baseline/<kind>/<seed>.json."""

from imix import settings
from imix.errors import exit_cleanly
from stages import DATA, arguments, metrics_file, say


def main() -> None:
    """Evaluate both baselines of one data set with one seed."""
    args = arguments(__doc__, "dataset", "seed")
    domain, probe = settings.read(settings.Domain, args.dataset, "domain"), settings.read(settings.Probe, args.dataset, "probe")

    from torch import nn

    from imix import checkpoints, runtime
    from imix.datasets import load
    from imix.evaluation import evaluate
    from imix.files import write_json

    targets = {kind: metrics_file(args.dataset, "baseline", kind, args.seed) for kind in ("raw", "untrained")}
    say(f"baseline {args.dataset} {args.seed}", "raw inputs and an untrained encoder", list(targets.values()))
    device = runtime.configure(args.seed)
    dataset = load(DATA / args.dataset / "tensors", device)
    untrained, views = checkpoints.build(domain, dataset)
    for kind, encoder in {"raw": nn.Flatten(), "untrained": untrained}.items():
        write_json(targets[kind], evaluate(encoder, views, dataset, probe, args.seed) | {"machine": runtime.machine(device)})


if __name__ == "__main__":
    exit_cleanly(main)
