"""Bring a data set's source into data/<dataset>/raw."""

from imix import settings
from imix.datasets import source_module, write_checksums
from imix.errors import exit_cleanly
from imix.files import DATA
from stages import arguments, say


def main() -> None:
    """Fetch one data set."""
    dataset = arguments(__doc__, "dataset").dataset
    source = settings.read(settings.Source, dataset, "source").root
    folder = DATA / dataset / "raw"
    say(f"fetch {dataset}", f"from {source.name}", folder)
    source_module(source.name).fetch(source, folder)
    write_checksums(folder)


if __name__ == "__main__":
    exit_cleanly(main)
