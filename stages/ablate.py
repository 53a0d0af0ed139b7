"""Train and judge what an ablation asks for: data/ablations/<ablation>/<dataset>/<seed>, one file a training.

A file is named by the hash of everything that its training and evaluation depend on, and DVC leaves the folder in place
(``persist``): whatever an ablation's list gains, nothing that already ran runs again.
"""

import hashlib
import json

from imix import settings
from imix.errors import exit_cleanly
from imix.files import DATA, ablation_folder, write_json
from stages import arguments, say


def main() -> None:
    """Train the variants of one ablation on one data set with one seed that are not there yet; remove those not asked for."""
    args = arguments(__doc__, "ablation", "dataset", "seed")
    asked = settings.read(settings.Variants, args.ablation, args.dataset, code="ablate", folder=settings.ABLATIONS)
    judged = asked.evaluation

    import torch

    from imix import evaluation, pretraining, resuming, runtime
    from imix.datasets import load
    from imix.views import make_views

    folder = ablation_folder(args.ablation, args.dataset, args.seed)
    say(f"ablate {args.ablation} {args.dataset} {args.seed}", f"{len(asked.variants)} trainings", folder)
    device = runtime.configure()
    dataset = load(DATA / args.dataset / "tensors", device)
    views = make_views(judged.views, dataset)
    code = settings.fingerprint("ablate")
    files = set()
    for variant in asked.variants:
        cell = variant.pretraining()
        identity = {**vars(args), "method": variant.method, "mix": variant.mix, "value": variant.value, "settings": cell.model_dump()}
        inputs = json.dumps([identity, judged.model_dump(), code, dataset.sha256, torch.__version__], sort_keys=True)
        target = folder / f"{variant.value}.{variant.method}.{variant.mix}.{hashlib.sha256(inputs.encode()).hexdigest()[:16]}.json"
        files.add(target)
        if target.exists():
            continue
        resume = resuming.resume_path(identity, dataset.sha256, device)
        label = f"ablate {args.ablation} {args.dataset} {variant.method} {variant.mix} {variant.value} {args.seed}"
        resuming.claim(resume, label)
        training = pretraining.Training(dataset, variant.method, cell, args.seed)
        pretraining.run(training, label, resume)
        encoder = training.method.encoder
        result = runtime.provenance(identity, dataset.card, device, training.seconds)
        result["size"] = {"parameters": sum(p.numel() for p in encoder.parameters()), "rows": len(training.rows)}
        result["figures"] = evaluation.evaluate(encoder, views, dataset, judged.probe, args.seed)
        write_json(target, result)
        resume.unlink(missing_ok=True)
    for path in set(folder.iterdir()) - files:  # a killed run's unfinished one included
        path.unlink()


if __name__ == "__main__":
    exit_cleanly(main)
