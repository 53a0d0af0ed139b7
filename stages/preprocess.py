"""Read a data set's source into tensors, splits and statistics: data/<dataset>/tensors."""

import json

from imix import settings
from imix.datasets import check_checksums, save, source_module
from imix.errors import exit_cleanly
from stages import DATA, arguments, say


def main() -> None:
    """Preprocess one data set."""
    dataset = arguments(__doc__, "dataset").dataset
    source = settings.read(settings.Source, dataset, "source").root
    rows = settings.read(settings.ROWS[source.name], dataset, "rows")
    raw, folder = DATA / dataset / "raw", DATA / dataset / "tensors"
    record = raw / "source.json"  # archives: what was found
    found = json.loads(record.read_text()) if record.exists() else {}
    say(f"preprocess {dataset}", "tensors, splits, statistics", folder)
    check_checksums(raw)
    save(source_module(source.name).read(source, rows, raw), folder, source.model_dump() | found)


if __name__ == "__main__":
    exit_cleanly(main)
