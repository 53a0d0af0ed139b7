"""What a Dask worker and its runners say to each other; imports neither Dask nor DVC."""

from typing import Any

Entry = dict[str, Any]  # of a stage in dvc.lock
STOP = "stop"  # the last order to a runner
