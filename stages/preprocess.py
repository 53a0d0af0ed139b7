"""Read a data set's source into tensors, splits and statistics: data/<dataset>/tensors."""

import json

from imix import paths, plugins
from imix.errors import exit_cleanly
from imix.settings import files
from imix.sources import check_checksums, save
from stages import announce, arguments


def main() -> None:
    """Preprocess one data set."""
    dataset = arguments(__doc__, "dataset").dataset
    settings, chosen = (files.read(dataset, name)["settings"] for name in ("source", "rows"))
    module = plugins.find("datasets", settings["name"])
    raw, folder = paths.DATA / dataset / "raw", paths.tensors(dataset)
    announce(f"preprocess {dataset}", "tensors, splits, statistics", folder)
    check_checksums(raw)
    # of archives: what the download was; not the settings of this name in data/settings/<dataset>
    record = raw / "source.json"
    found = json.loads(record.read_text()) if record.exists() else {}
    splits = module.read(module.Source.model_validate(settings), module.Rows.model_validate(chosen), raw)
    save(splits, folder, module.KIND, module.ORIGIN, {"source": settings | found, "chosen": chosen})


if __name__ == "__main__":
    exit_cleanly(main)
