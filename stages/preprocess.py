"""Read a data set's source into tensors, splits and statistics: data/<dataset>/tensors."""

import json

from imix import settings
from imix.datasets import check_checksums, save, source_module
from imix.errors import exit_cleanly
from imix.files import DATA
from stages import arguments, say


def main() -> None:
    """Preprocess one data set."""
    dataset = arguments(__doc__, "dataset").dataset
    source = settings.read(settings.Source, dataset, "source").root
    rows = settings.read(settings.ROWS[source.name], dataset, "rows")
    raw, folder = DATA / dataset / "raw", DATA / dataset / "tensors"
    record = raw / "source.json"  # archives: what was found
    say(f"preprocess {dataset}", "tensors, splits, statistics", folder)
    check_checksums(raw)
    found = json.loads(record.read_text()) if record.exists() else {}
    save(source_module(source.name).read(source, rows, raw), folder, {"source": source.model_dump() | found, "chosen": rows.model_dump()})


if __name__ == "__main__":
    exit_cleanly(main)
