"""Train one encoder: data/encoders/<dataset>/<method>/<mix>/<seed>.safetensors; data/trainings/... tells of its training."""

from imix import settings
from imix.errors import exit_cleanly
from imix.files import DATA, encoder_file, training_folder, write_bytes, write_json
from stages import arguments, say


def main() -> None:
    """Pretrain one cell with one seed."""
    args = arguments(__doc__, "dataset", "method", "mix", "seed")
    cell = settings.read(settings.PRETRAINING[args.method], args.dataset, args.method, args.mix, code="pretrain")

    from imix import checkpoints, pretraining, resuming, runtime
    from imix.datasets import load

    place = (args.dataset, args.method, args.mix, args.seed)
    target, folder = encoder_file(*place), training_folder(*place)
    label = f"pretrain {args.dataset} {args.method} {args.mix} {args.seed}"
    say(label, f"{cell.epochs} epochs", [target, folder])
    device = runtime.configure()
    dataset = load(DATA / args.dataset / "tensors", device)
    identity = {**vars(args), "settings": cell.model_dump()}
    resume = resuming.resume_path(identity, dataset.sha256, device)
    resuming.claim(resume, label)
    for left in target.parent.glob(f".{target.name}.*.tmp"):  # by a killed process: DVC removes what lies in the folder alone
        left.unlink()
    training = pretraining.Training(dataset, args.method, cell, args.seed)
    pretraining.run(training, label, resume)
    checkpoints.save(training.method.encoder, cell, target)
    write_bytes(folder / "history.csv", pretraining.history_csv(training.history).encode())
    write_json(folder / "provenance.json", runtime.provenance(identity, dataset.card, device, training.seconds))
    resuming.finish(resume)


if __name__ == "__main__":
    exit_cleanly(main)
