"""Settings that scale with the rows: ``auto``, and epochs given as ``"500 steps"``.

For a training on N rows:

- ``batch_size``: N / 8, down to a power of two, from 16 to 256, and at most N / 2
- ``epochs``: as many as give the steps, from 5 to 500
- ``warmup_epochs``: a tenth of the epochs, at most 10; ``knn_every``: a fifth of them
- ``queue``: N / 2, down to a multiple of the batch, from one batch to 4096

Each is there to be replaced by a number.
"""

import re
from collections.abc import Mapping
from typing import Any

AUTO = "auto"
STEPS = re.compile(r"([1-9]\d{0,7}) steps")


def is_scaled(value: Any) -> bool:
    """Whether a setting's value is one that scales with the rows."""
    return isinstance(value, str) and (value == AUTO or bool(STEPS.fullmatch(value)))


def scaled_to(rows: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return numbers for those settings that scale with the rows.

    >>> scaled_to(1000, {"batch_size": "auto", "epochs": "500 steps", "queue": "auto", "ema": 0.99})
    {'batch_size': 64, 'epochs': 33, 'queue': 448}
    """
    batch = settings.get("batch_size")
    found: dict[str, Any] = {}
    if batch == AUTO:
        batch = found["batch_size"] = max(2, min(256, max(16, _power(rows / 8)), _power(rows / 2)))
    epochs = settings.get("epochs")
    if not isinstance(batch, int) or batch < 1:
        return found
    if isinstance(epochs, str) and (steps := STEPS.fullmatch(epochs)):
        epochs = found["epochs"] = min(500, max(5, round(int(steps[1]) / max(1, rows // batch))))
    if isinstance(epochs, int):
        auto = {"warmup_epochs": min(10, epochs // 10), "knn_every": max(1, epochs // 5)}
        found |= {key: value for key, value in auto.items() if settings.get(key) == AUTO}
    if settings.get("queue") == AUTO:
        found["queue"] = max(batch, min(4096, rows // 2) // batch * batch)
    return found


def _power(number: float) -> int:
    """Return the greatest power of two that is not above a number, at least 1."""
    return 1 << max(0, int(number).bit_length() - 1)
