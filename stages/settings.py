"""Resolve params.yaml into data/settings: one small file for every stage of the grid.

A hundred stages that each name forty parameters make a lock file that DVC needs seconds to rewrite, after every stage.
They name their one file instead, and run again when what it says has changed.
"""

import shutil

from imix import settings
from imix.errors import exit_cleanly
from stages import arguments, say


def main() -> None:
    """Check params.yaml, every cell of it, and write what each stage needs."""
    arguments(__doc__)
    params = settings.load()
    folders = [settings.FOLDER, settings.ABLATIONS]
    say("settings", "check params.yaml and resolve it", folders)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    settings.write(params)


if __name__ == "__main__":
    exit_cleanly(main)
