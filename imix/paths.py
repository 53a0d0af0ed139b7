"""Cells, and the paths of every stage's outputs."""

from pathlib import Path
from typing import NamedTuple

from imix.errors import UserError

DATA = Path("data")
SETTINGS = DATA / "settings"


class Cell(NamedTuple):
    """One cell of the grid. A stage works on one cell with all its seeds."""

    dataset: str
    augmentation: str
    method: str
    mix: str

    @property
    def path(self) -> Path:
        """The cell as a path, below whichever folder of ``data``."""
        return Path(*self)

    def __str__(self) -> str:
        return " ".join(self)


def tensors(dataset: str) -> Path:
    """Return the folder of a data set's tensors and ``card.json``, which says what they are."""
    return DATA / dataset / "tensors"


def encoders(cell: Cell) -> Path:
    """Return the folder of a cell's encoders, one ``<seed>.safetensors`` each."""
    return DATA / "encoders" / cell.path


def encoder_files(cell: Cell) -> dict[int, Path]:
    """Return the files of a cell's encoders by their seeds.

    Raises:
        UserError: there is none.
    """
    folder = encoders(cell)
    found = {int(path.stem): path for path in folder.glob("*.safetensors") if path.stem.isdecimal()}
    if not found:
        raise UserError(f"{folder}: has no <seed>.safetensors; `python -m stages.pretrain` makes one")
    return dict(sorted(found.items()))


def histories(cell: Cell) -> Path:
    """Return the folder of a cell's histories, one ``<seed>.csv`` each."""
    return DATA / "histories" / cell.path


def metrics(cell: Cell, pretrained_on: str | None = None) -> Path:
    """Return the folder of a cell's metrics, one ``<seed>.json`` each.

    Args:
        pretrained_on: the data set that the encoders were trained on, if another than the cell's.
    """
    folder = DATA / "metrics" / cell.dataset
    return (folder / f"from_{pretrained_on}" if pretrained_on else folder).joinpath(*cell[1:])


def baseline(dataset: str) -> Path:
    """Return the folder of a data set's baselines.

    It has ``raw/<seed>.json`` and ``untrained/<seed>.json``.
    """
    return DATA / "metrics" / dataset / "baseline"


def shown(dataset: str) -> Path:
    """Return the folder of what the page of a study shows of a data set."""
    return DATA / "shown" / dataset


def best(dataset: str) -> Path:
    """Return the file of a data set's best encoder.

    Its model card is beside it, with the ending .md.
    """
    return DATA / "best" / f"{dataset}.safetensors"


def ablation(name: str, dataset: str) -> Path:
    """Return the folder of an ablation's results on one data set."""
    return DATA / "ablations" / name / dataset


def variant(cell: Cell, value: str, seed: int) -> str:
    """Return the file name of one training of an ablation, in the folder that `ablation` returns.

    Args:
        value: the name of one of the ablation's values.
    """
    return f"{value}.{'.'.join(cell[1:])}.{seed}.json"
