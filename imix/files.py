"""Files that are either whole or not there: write to a temporary name, then rename."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DATA = Path("data")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it takes ``path``'s place, on an error it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def sha256(path: Path) -> str:
    """The SHA-256 of a file of any size."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` as indented JSON; refuses NaN and infinities."""
    write_bytes(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def encoder_folder(dataset: str, method: str, mix: str, seed: int | None = None) -> Path:
    """Where a training writes; without a seed where those of its cell do."""
    return DATA.joinpath("encoders", dataset, method, mix, *([] if seed is None else [str(seed)]))


def ablation_folder(ablation: str, dataset: str, seed: int) -> Path:
    """Where an ablation writes."""
    return DATA / "ablations" / ablation / dataset / str(seed)


def metrics_folder(dataset: str, *cell: str, pretrained_on: str | None = None) -> Path:
    """Where evaluations on a data set write, one file a seed: of a method and mix, pretrained there or on another.

    Baselines have method ``baseline`` and mix ``raw``, ``untrained`` or ``supervised``.
    """
    return DATA.joinpath("metrics", dataset, *([f"from_{pretrained_on}"] if pretrained_on else []), *cell)


def metrics_file(dataset: str, method: str, mix: str, seed: int, pretrained_on: str | None = None) -> Path:
    """Where the evaluation of one encoder is written."""
    return metrics_folder(dataset, method, mix, pretrained_on=pretrained_on) / f"{seed}.json"
