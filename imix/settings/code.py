"""The code that decides what a stage gives that trains or judges, which stands beside its settings: with either, the stage runs again.

tests/test_declared.py runs every stage and holds what it imported against these lists.
"""

import hashlib
import json
from pathlib import Path

ROOT = Path(__file__).parents[2]  # of the repository: what is fingerprinted is what runs

_BOTH = (
    "imix/checkpoints.py", "imix/datasets/__init__.py", "imix/encoders.py", "imix/features.py", "imix/runtime.py", "imix/views",
)  # fmt: skip
_TRAINING = (*_BOTH, "imix/methods.py", "imix/mixing.py", "imix/objectives.py", "imix/pretraining.py", "imix/resuming.py")
_EVALUATION = (*_BOTH, "imix/evaluation.py")

CODE = {
    "pretrain": ("stages/pretrain.py", *_TRAINING),
    "evaluate": ("stages/evaluate.py", *_EVALUATION),
    "baseline": ("stages/baseline.py", *_EVALUATION),
    "ablate": ("stages/ablate.py", *_TRAINING, *_EVALUATION),
}  # of a kind of stage: files, and folders with all in them


def hashes(kind: str) -> dict[str, str]:
    """The SHA-256 of every module that a kind of stage runs, by path."""
    files = {file for path in CODE[kind] for file in ([ROOT / path] if path.endswith(".py") else (ROOT / path).rglob("*.py"))}
    return {file.relative_to(ROOT).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(files)}


def fingerprint(kind: str) -> str:
    """One SHA-256 for all modules that a kind of stage runs."""
    return hashlib.sha256(json.dumps(hashes(kind)).encode()).hexdigest()
