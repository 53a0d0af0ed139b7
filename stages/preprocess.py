"""Read a data set's source into tensors, splits and statistics: data/<dataset>/tensors."""

from imix import settings
from imix.datasets import save, source_module
from imix.errors import exit_cleanly
from stages import DATA, arguments, say


def main() -> None:
    """Preprocess one data set."""
    dataset = arguments(__doc__, "dataset").dataset
    data = settings.load().data[dataset]
    folder = DATA / dataset / "tensors"
    say(f"preprocess {dataset}", "tensors, splits, statistics", folder)
    splits = source_module(data.source.name).read(data, DATA / dataset / "raw")
    save(splits, folder, data.source.model_dump())


if __name__ == "__main__":
    exit_cleanly(main)
