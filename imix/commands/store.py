"""List the trainings and evaluations that are kept, with their sizes and when each was used last.

The store is the folder `.imix`, or the one that IMIX_STORE names. If it is larger than IMIX_STORE_GB
(default 10), the entries whose last use is longest ago are removed. A stage that needs a removed
training trains it again.
"""

import argparse
import json
from datetime import datetime

from imix.commands import arguments
from imix.console import show_table


def options(parser: argparse.ArgumentParser) -> None:
    """Add ``--prune``."""
    arguments.add_number(parser, "--prune", "GB", "first remove what was used longest ago, down to this size")


def run(args: argparse.Namespace) -> None:
    """Print a line per entry, and the total."""
    from imix import store

    if args.prune:
        print(f"{store.prune(args.prune * 1e9)} entries removed")
    entries, rows = store.entries(), []
    for entry, used, size in entries:
        about = entry.folder / "about.json"
        label = json.loads(about.read_text())["label"] if about.exists() else entry.key
        state, when = "finished" if entry.finished() else "unfinished", datetime.fromtimestamp(used)
        rows.append([entry.kind, state, f"{size / 1e6:.2f}", f"{when:%Y-%m-%d %H:%M}", label])
    show_table(["kind", "state", ">MB", "used", "what"], rows)
    total = sum(size for *_, size in entries)
    print(f"{store.root()}: {len(entries)} entries, {total / 1e9:.3f} GB of {store.bound() / 1e9:g} GB (IMIX_STORE_GB)")
