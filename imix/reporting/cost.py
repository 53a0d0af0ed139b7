"""Sum up what the trainings of a study took.

Seconds and machines stay out of every other report.
"""

import json
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

RECORD = {"seconds", "device", "processor", "threads", "torch", "git", "started"}  # the keys of a record


def collect(encoders: Mapping[tuple[Hashable, ...], str], records: Path) -> dict[str, Any]:
    """Sum up the records of trainings, per data set.

    Args:
        encoders: SHA-256 of a training's encoder, by a tuple whose first entry is the data set.
        records: folder with one record per training, ``<encoder sha256>.json``. A record that is
            missing or damaged is counted as unknown: results that come from a cache have none.
    """
    by_dataset: dict[str, list[dict[str, Any] | None]] = {}
    for cell, sha256 in encoders.items():
        by_dataset.setdefault(str(cell[0]), []).append(_read(records / f"{sha256}.json"))
    return {dataset: _sum(found) for dataset, found in by_dataset.items()}


def _read(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return record if record.keys() >= RECORD and 0 <= float(record["seconds"]) < math.inf else None
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _sum(found: list[dict[str, Any] | None]) -> dict[str, Any]:
    known = [record for record in found if record]
    total = sum(float(record["seconds"]) for record in known)
    started = sorted(str(record["started"]) for record in known)
    return {
        "trainings": len(found),
        "known": len(known),
        "seconds": {"total": round(total, 1), "mean": round(total / len(known), 2) if known else None},
        "machines": _counts(_machine(record) for record in known),
        "torch": _counts(str(record["torch"]) for record in known),
        "commits": _counts(str(record["git"]) for record in known),
        "started": {"first": started[0], "last": started[-1]} if started else None,
    }


def _machine(record: Mapping[str, Any]) -> str:
    threads = record["threads"]
    return f"{record['device']}, {record['processor']}, {threads} thread{'s' * (threads != 1)}"


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
