"""Bring a data set's source into data/<dataset>/raw."""

from imix import paths, plugins
from imix.errors import exit_cleanly
from imix.settings import files
from imix.sources import write_checksums
from stages import announce, arguments


def main() -> None:
    """Fetch one data set."""
    dataset = arguments(__doc__, "dataset").dataset
    settings = files.read(dataset, "source")["settings"]
    module, folder = plugins.find("datasets", settings["name"]), paths.DATA / dataset / "raw"
    announce(f"fetch {dataset}", f"from {settings['name']}", folder)
    module.fetch(module.Source.model_validate(settings), folder)
    write_checksums(folder)


if __name__ == "__main__":
    exit_cleanly(main)
