"""Resolve params.yaml into data/settings: what each stage needs, and its code's fingerprint."""

from imix.errors import exit_cleanly
from imix.paths import SETTINGS
from imix.settings import loading, resolved
from stages import announce, arguments


def main() -> None:
    """Check params.yaml, every cell of it, and write what each stage needs."""
    arguments(__doc__)
    params = loading.load()
    announce("settings", "check params.yaml and resolve it", SETTINGS)
    resolved.write(params)


if __name__ == "__main__":
    exit_cleanly(main)
