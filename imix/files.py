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


def encoder_folder(dataset: str, method: str, mix: str, seed: int) -> Path:
    """Where a training writes."""
    return DATA / "encoders" / dataset / method / mix / str(seed)


def ablation_folder(ablation: str, dataset: str, seed: int) -> Path:
    """Where an ablation writes."""
    return DATA / "ablations" / ablation / dataset / str(seed)


def metrics_file(dataset: str, method: str, mix: str, seed: int) -> Path:
    """Where an evaluation writes; baselines have method ``baseline`` and mix ``raw``, ``untrained`` or ``supervised``."""
    return DATA / "metrics" / dataset / method / mix / f"{seed}.json"


def transfer_file(pretrained_on: str, probed_on: str, method: str, mix: str, seed: int) -> Path:
    """Where the evaluation of an encoder on another data set writes."""
    return DATA / "metrics" / probed_on / f"from_{pretrained_on}" / method / mix / f"{seed}.json"
