"""Show a data set's rows and what views and i-Mix do to them: pictures, sounds, numbers.

Rows are training rows. Views and mixtures are those of `imix.views` and `imix.mixing`, drawn with
one seed.
"""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from imix import mixing
from imix.dataset import Dataset
from imix.errors import UserError
from imix.files import write_bytes, write_json
from imix.views.base import Views

ROWS = 4
COLUMNS = 8  # of a table
SIDE = 128  # pixels that a picture is drawn with, at least
INDEX = "rows.json"  # in the folder of a data set


def chosen(data: Dataset) -> Tensor:
    """Return the indices (M,) of the first training rows of at most `ROWS` classes.

    The classes are spread over all.
    """
    classes = data.train_labels.unique()
    spread = torch.linspace(0, len(classes) - 1, min(ROWS, len(classes))).round().long()
    some = classes[spread.to(classes.device)]
    return torch.stack([(data.train_labels == label).nonzero()[0, 0] for label in some])


def write(folder: Path, data: Dataset, views: Views, alpha: float, seed: int) -> None:
    """Write rows.json, which describes `ROWS` rows, and the pictures and sounds that it names.

    Args:
        views: of the augmented cells. alpha: of i-Mix. seed: of views and mixing.
    """
    generator = torch.Generator().manual_seed(seed)
    index = chosen(data)
    rows = data.train[index.to(data.train.device)].to(data.device)
    labels = [data.classes[int(data.train_labels[row])] for row in index]
    first, second = views(rows, 0, generator), views(rows, 1, generator)
    mixture = _mixture(first, alpha, generator)
    stages = {"original": views.clean(rows), "view 1": first, "view 2": second, "mixed": mixture.inputs}
    stages, rows = {name: batch.cpu() for name, batch in stages.items()}, rows.cpu()
    show = {"image": _image, "speech": _speech, "tabular": _tabular}.get(data.kind, _numbers)
    shown = {name: show(batch, rows, data, folder, name.replace(" ", "")) for name, batch in stages.items()}
    items = [
        {
            "class": labels[item],
            "partner": labels[int(mixture.partner[item])],
            "lam": round(float(mixture.lam[item]), 2),
            **{name: parts[item] for name, parts in shown.items()},
        }
        for item in range(len(rows))
    ]
    write_json(folder / INDEX, {"kind": data.kind, "alpha": alpha, "columns": columns(data), "items": items})


def _mixture(views: Tensor, alpha: float, generator: torch.Generator) -> mixing.Mixture:
    """Return a mixture in which no item is its own partner, where there are two or more."""
    while True:
        mixture = mixing.mixup(views, alpha, generator=generator)
        if len(views) < 2 or (mixture.partner != torch.arange(len(views), device=views.device)).all():
            return mixture


def columns(data: Dataset) -> list[str]:
    """Return the names of a table's first numbers; their places where its source has no names."""
    names = (data.card.get("columns") or {}).get("numbers", [])
    count = min(data.numbers, COLUMNS) if data.kind == "tabular" else 0
    return [names[place] if place < len(names) else f"column {place + 1}" for place in range(count)]


def _picture(pixels: np.ndarray, path: Path) -> dict[str, str]:
    """Write pixels (H, W) or (H, W, 3) uint8 as a PNG, enlarged without smoothing."""
    image, content = Image.fromarray(pixels), io.BytesIO()
    times = max(1, -(-SIDE // max(image.size)))
    image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST).save(content, "PNG")
    write_bytes(path, content.getvalue())
    return {"picture": path.name}


def _image(batch: Tensor, rows: Tensor, data: Dataset, folder: Path, name: str) -> list[dict[str, str]]:
    pixels = (
        (batch * data.std.cpu().view(-1, 1, 1) + data.mean.cpu().view(-1, 1, 1)).clamp(0, 1).mul(255).round().byte()
    )
    shaped = [image[0] if len(image) == 1 else image.permute(1, 2, 0) for image in pixels]
    return [_picture(image.numpy(), folder / f"{number}-{name}.png") for number, image in enumerate(shaped)]


def _speech(batch: Tensor, rows: Tensor, data: Dataset, folder: Path, name: str) -> list[dict[str, str]]:
    """Write spectrograms, low tones below; originals have their sound, too."""
    from matplotlib import colormaps

    decibels = batch * data.std.cpu() + data.mean.cpu()
    share = ((decibels + 80) / 80).clamp(0, 1).flip(2)[:, 0].numpy()
    found = [
        _picture(colormaps["magma"](image, bytes=True)[:, :, :3], folder / f"{number}-{name}.png")
        for number, image in enumerate(share)
    ]
    if name == "original":
        found = [
            shown | _sound(clip, folder / f"{n}.wav") for n, (shown, clip) in enumerate(zip(found, rows, strict=True))
        ]
    return found


def _sound(clip: Tensor, path: Path) -> dict[str, str]:
    from scipy.io import wavfile

    content = io.BytesIO()
    wavfile.write(content, len(clip), clip.numpy())  # clips have one second
    write_bytes(path, content.getvalue())
    return {"sound": path.name}


def _tabular(batch: Tensor, rows: Tensor, data: Dataset, folder: Path, name: str) -> list[dict[str, Any]]:
    """Return the first numbers of each row, in the table's own units.

    A number that a view masks is None.
    """
    count = min(data.numbers, COLUMNS)
    masked = (batch[:, :count] == 0) & name.startswith("view")
    values = (batch[:, : data.numbers] * data.std.cpu() + data.mean.cpu())[:, :count]
    return [
        {"numbers": [None if hide else float(f"{value:.4g}") for value, hide in zip(row, hidden, strict=True)]}
        for row, hidden in zip(values.tolist(), masked.tolist(), strict=True)
    ]


def _numbers(batch: Tensor, rows: Tensor, data: Dataset, folder: Path, name: str) -> list[dict[str, Any]]:
    """Return the first numbers of each row of a domain that has no picture of its own."""
    return [{"numbers": [float(f"{value:.3g}") for value in row.flatten()[:COLUMNS].tolist()]} for row in batch]


def read(folder: Path) -> dict[str, Any]:
    """Return what `write` wrote.

    Raises:
        UserError: missing or damaged.
    """
    try:
        found = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        found["items"], found["kind"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder / INDEX}: cannot be read ({error}); run `dvc repro` with the stage that writes it"
        ) from None
    return found
