"""Files that are either whole or not there (write to a temporary name, then rename), and where those of the stages lie."""

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


def encoder_folder(dataset: str, method: str, mix: str) -> Path:
    """Where a cell's encoders lie, one file a seed."""
    return DATA / "encoders" / dataset / method / mix


def encoder_file(dataset: str, method: str, mix: str, seed: int) -> Path:
    """Where a training writes its encoder."""
    return encoder_folder(dataset, method, mix) / f"{seed}.safetensors"


def training_folder(dataset: str, method: str, mix: str, seed: int) -> Path:
    """Where a training writes what else it tells: its history and provenance."""
    return DATA / "trainings" / dataset / method / mix / str(seed)


def ablation_folder(ablation: str, dataset: str, seed: int) -> Path:
    """Where an ablation writes."""
    return DATA / "ablations" / ablation / dataset / str(seed)


def baseline_folder(dataset: str) -> Path:
    """Where a data set's baselines are judged: ``raw``, ``untrained`` and ``supervised`` stand in the place of a mix."""
    return DATA / "metrics" / dataset / "baseline"


def metrics_folder(dataset: str, method: str, mix: str, pretrained_on: str | None = None) -> Path:
    """Where a cell's encoders are judged, one file a seed; ``pretrained_on``: another data set, if so."""
    folder = DATA / "metrics" / dataset
    return (folder / f"from_{pretrained_on}" if pretrained_on else folder) / method / mix


def metrics_file(dataset: str, method: str, mix: str, seed: int, pretrained_on: str | None = None) -> Path:
    """Where one encoder is judged; the baselines' method is ``baseline``."""
    return metrics_folder(dataset, method, mix, pretrained_on) / f"{seed}.json"
