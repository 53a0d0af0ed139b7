"""Resolve params.yaml into data/settings: what each stage needs, and of what trains or judges the fingerprint of its code.

Stages name what they read of it, and run again when that has changed: dvc.yaml says why.
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
