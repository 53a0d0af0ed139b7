"""Dask clusters: this machine's cores or GPUs, or any that Dask can start or reach."""

import contextlib
import logging
import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pkgutil import resolve_name
from typing import Any

from distributed import Client, Nanny, Scheduler, SpecCluster

from imix.cluster import worker
from imix.errors import UserError

QUIET = logging.ERROR
CONNECT_SECONDS = 10.0  # to wait for a scheduler


def gpus() -> list[str]:
    """Return the GPUs that stages may use, as CUDA numbers them: ``IMIX_DEVICE`` chooses."""
    device = os.environ.get("IMIX_DEVICE") or "cuda"
    if one := re.fullmatch(r"cuda:(\d+)", device):
        return [one[1]]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if device != "cuda" or not shutil.which("nvidia-smi") or visible == "":
        return []
    if visible:
        return visible.split(",")
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [str(number) for number, _ in enumerate(re.findall(r"^GPU \d+:", listed.stdout, re.MULTILINE))]


def workers(count: int | None) -> dict[int, dict[str, Any]]:
    """Return the options of this machine's workers: one stage each, one worker per GPU or per core.

    Args:
        count: workers. They share the GPUs or cores evenly.
    """
    cards = gpus()
    count = count or len(cards) or worker.cores()
    common = {"nthreads": 1, "memory_limit": 0, "host": "127.0.0.1", "preload": [worker.__name__]}
    common["silence_logs"] = QUIET
    if not cards:
        own = {"resources": {"CPU": max(1, worker.cores() // count)}}
        return {number: {"cls": Nanny, "options": common | own} for number in range(count)}
    seen = [cards[number::count] or [cards[number % len(cards)]] for number in range(count)]
    return {
        number: {
            "cls": Nanny,
            "options": common | {"resources": {"GPU": len(own)}, "env": {"CUDA_VISIBLE_DEVICES": ",".join(own)}},
        }
        for number, own in enumerate(seen)
    }


def here(count: int | None) -> SpecCluster:
    """Start a cluster of this machine's cores or GPUs."""
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": ":8787"}}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Port 8787 is already in use")
        return SpecCluster(workers(count), scheduler, silence_logs=QUIET)


@contextlib.contextmanager
def connected(address: str | None, cluster: str | None, count: int | None) -> Iterator[Client]:
    """Yield a client of another scheduler or cluster; by default, of one on this machine.

    Args:
        address: of a scheduler. cluster: a class such as ``dask_jobqueue.SLURMCluster``, with the
            arguments that Dask's configuration has for it. count: workers to start.

    Raises:
        UserError: no such scheduler or class, or one that cannot be started.
    """
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # a lost scheduler is one line of ours
    with contextlib.ExitStack() as stack:
        try:
            if address:
                made: Any = address
            elif cluster:
                made = stack.enter_context(resolve_name(cluster)())
                made.scale(count or 1)
            else:
                made = stack.enter_context(here(count))
            client = stack.enter_context(Client(made, timeout=CONNECT_SECONDS, set_as_default=False))
        except (OSError, ImportError, AttributeError, TypeError, ValueError) as error:
            raise UserError(f"{address or cluster}: {' '.join(str(error).split())}") from None
        yield client
