"""Evaluate raw inputs and an untrained encoder by the same probe.

Writes data/metrics/<dataset>/baseline/<kind>/<seed>.json and, for reports, the data set's card
beside them.
"""

from imix import paths, running
from imix.errors import exit_cleanly
from imix.files import write_bytes
from imix.settings import files
from stages import announce, arguments


def main() -> None:
    """Evaluate the baselines of one data set."""
    dataset = arguments(__doc__, "dataset").dataset
    asked = files.read(dataset, "baseline")
    label, target = f"baseline {dataset}", paths.baseline(dataset)
    announce(label, "raw inputs and an untrained encoder", target)
    # of every task: settings, and the fingerprint of the code, for the store's key
    given = asked["settings"], asked["code"]["evaluation"]
    tasks = [
        running.Task(
            f"{label} {kind} seed {seed}",
            "imix.jobs:baseline",
            (kind, dataset, *given, seed, target / kind / f"{seed}.json"),
        )
        for kind in ("raw", "untrained")
        for seed in asked["seeds"]
    ]
    # Reports need the data set's card. They depend on data/metrics, where it is copied to: their
    # deps in dvc.yaml cannot name data/<dataset> for every data set.
    write_bytes(target / "card.json", (paths.tensors(dataset) / "card.json").read_bytes())
    running.run(label, tasks, ["imix.jobs", f"imix.views.{asked['settings']['kind']}"])


if __name__ == "__main__":
    exit_cleanly(main)
