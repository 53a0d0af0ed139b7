"""Train and evaluate an ablation's variants: data/ablations/<ablation>/<dataset>.

Trainings that the store has, those of the grid among them, are taken from there.
"""

from imix import paths, running
from imix.errors import exit_cleanly
from imix.files import write_json
from imix.settings import files
from stages import announce, arguments


def main() -> None:
    """Run one ablation on one data set."""
    args = arguments(__doc__, "ablation", "dataset")
    asked = files.read("ablations", args.ablation, args.dataset)
    folder, label = paths.ablation(args.ablation, args.dataset), f"ablate {args.ablation} {args.dataset}"
    if not asked["variants"]:
        announce(label, "not asked for on this data set", folder)
        write_json(folder / "variants.json", {})
        return
    announce(label, f"{len(asked['variants'])} variants, {len(asked['seeds'])} seeds", folder)
    tasks = [
        running.Task(
            f"{label} {variant['value']} {' '.join(variant['cell'][1:])} seed {seed}",
            "imix.jobs:variant",
            (paths.Cell(*variant["cell"]), variant["value"], variant, asked["evaluation"], seed, folder),
        )
        for variant in asked["variants"]
        for seed in asked["seeds"]
    ]
    methods = sorted({variant["cell"][2] for variant in asked["variants"]})
    modules = [f"imix.views.{asked['domain']}", *(f"imix.methods.{method}" for method in methods)]
    running.run(label, tasks, ["imix.preload", "imix.jobs", *modules])


if __name__ == "__main__":
    exit_cleanly(main)
