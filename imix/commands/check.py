"""Check that the study can run: params.yaml and every cell of it, the data sets, this machine.

Prints a line for each: ok or NOT OK, and what was found. The exit code is 1 if anything is not ok.
Nothing is downloaded or written.
"""

import argparse
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from imix import arithmetic
from imix.commands import arguments
from imix.console import show_table
from imix.errors import UserError

if TYPE_CHECKING:
    from imix.settings.study import Params

ROOM = 2e9  # bytes of disk under which a study is likely to fail


class Finding(NamedTuple):
    """What was looked at, whether it is in order, and what it is."""

    what: str
    fine: bool
    text: str


def options(parser: argparse.ArgumentParser) -> None:
    """Add ``-S``."""
    arguments.add_changes(parser)


def run(args: argparse.Namespace) -> None:
    """Print a line per finding.

    Raises:
        UserError: a setting that is refused, or something in the way of a run.
    """
    from imix.settings import resolved
    from imix.settings.overrides import changed

    with tempfile.TemporaryDirectory() as folder:
        params = changed(Path(folder), args.S)
    files = resolved.resolved(params)
    cells = len(params.grid.cells()) + len(params.grid.supervised_cells())
    text = f"{cells} cells, seeds {params.grid.seeds}, {len(params.ablations.run)} ablations; {len(files)} files"
    found = [Finding("settings", True, text), *_data(params), *_machine()]
    show_table(["what", "", "found"], [[one.what, "ok" if one.fine else "NOT OK", one.text] for one in found])
    if wrong := [one.what for one in found if not one.fine]:
        raise UserError(f"check: {', '.join(wrong)}: see above")


def _data(params: "Params") -> Iterator[Finding]:
    """Say how far each data set is and, before it is fetched, where its raw data will come from."""
    from imix import own, paths, sources
    from imix.settings.merging import data

    for name in params.grid.datasets:
        found = data(params, name)
        try:
            if (paths.tensors(name) / "card.json").is_file():
                text = f"preprocessed: {found.module.ORIGIN}"
            elif (paths.DATA / name / "raw" / sources.CHECKSUMS).is_file():
                text = f"fetched: {found.module.ORIGIN}"
            elif isinstance(found.source, own.OwnSource):
                text = f"will be packed from {own.place(found.source)}"
            else:
                text = sources.look(found.module, found.source)
            yield Finding(f"data {name}", True, text)
        except UserError as error:
            yield Finding(f"data {name}", False, str(error))


def _machine() -> Iterator[Finding]:
    """Say what trainings will run on."""
    import torch

    from imix import runtime, store

    yield Finding("python", True, f"{platform.python_version()}, torch {torch.__version__}")
    try:
        device, workers, threads = runtime.configure(), runtime.workers(), runtime.threads()
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else runtime.processor()
        yield Finding("device", True, f"{device} ({name}); {workers} side by side, {threads} thread each")
    except UserError as error:
        yield Finding("device", False, str(error))
    yield Finding(
        "arithmetic", True, "portable" if arithmetic.portable() else "native: results depend on the processor"
    )
    free = shutil.disk_usage(Path.cwd()).free
    yield Finding(
        "disk", free > ROOM, f"{free / 1e9:.1f} GB free; the store {store.root()} may take {store.bound() / 1e9:g}"
    )
    yield Finding("git", bool(shutil.which("git")), shutil.which("git") or "is not on the PATH; DVC needs it")
