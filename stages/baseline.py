"""Evaluate raw inputs and an untrained encoder by the same probe: data/metrics/<dataset>/baseline/<kind>/<seed>.json."""

from imix import paths, running
from imix.errors import exit_cleanly
from imix.settings import resolved
from stages import announce, arguments


def main() -> None:
    """Evaluate the baselines of one data set."""
    dataset = arguments(__doc__, "dataset").dataset
    running.start_server()
    asked = resolved.read(dataset, "baseline")

    from imix import jobs, runtime

    label, target = f"baseline {dataset}", paths.baseline(dataset)
    announce(label, "raw inputs and an untrained encoder", target)
    given = asked["settings"], asked["code"]["evaluation"]
    tasks = [
        running.Task(
            f"{label} {kind} seed {seed}", jobs.baseline, (kind, dataset, *given, seed, target / kind / f"{seed}.json")
        )
        for kind in ("raw", "untrained")
        for seed in asked["seeds"]
    ]
    running.run(label, tasks, runtime.workers())


if __name__ == "__main__":
    exit_cleanly(main)
