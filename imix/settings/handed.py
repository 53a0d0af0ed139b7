"""The files that hand each stage the settings that are its own."""

from pathlib import Path

from pydantic import ValidationError

from imix.errors import UserError
from imix.files import write_json
from imix.settings.fields import Model, Strict
from imix.settings.merging import data, domain, resolve, variants
from imix.settings.study import Params

FOLDER = Path("data/settings")
ABLATIONS = Path("data/ablations/settings")  # beside the results, so that a report depends on one folder, which is always there


def write(params: Params, folder: Path = FOLDER, ablations: Path = ABLATIONS) -> None:
    """Write the resolved settings of everything in the grid and of its ablations, one file per stage, where `read` looks for them."""
    grid = params.grid
    write_json(folder / "grid.json", grid.model_dump())
    for dataset in grid.datasets:
        source, rows = data(params, dataset)
        files: dict[str, Strict] = {"source": source, "rows": rows, "domain": domain(params, dataset), "probe": params.probe[dataset]}
        files |= {f"{method}/{mix}": resolve(params, dataset, method, mix) for method in grid.methods for mix in grid.mixes}
        for name, settings in files.items():
            write_json(folder / dataset / f"{name}.json", settings.model_dump())
    for name in params.ablations.run:
        for dataset in params.ablations.datasets:
            write_json(ablations / name / f"{dataset}.json", variants(params, name, dataset).model_dump())
    write_json(folder / "transfer.json", params.transfer.model_dump())
    write_json(folder / "projection.json", params.projection.model_dump())
    write_json(ablations / "asked.json", params.ablations.model_dump())


def read(model: type[Model], *name: str, folder: Path = FOLDER) -> Model:
    """Read what `write` wrote: ``read(Probe, "mnist", "probe")``.

    Raises:
        UserError: no such file, or one that `write` did not write.
    """
    path = folder.joinpath(*name).with_suffix(".json")
    try:
        return model.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = "not there" if isinstance(error, OSError) else str(error).splitlines()[0]
        raise UserError(
            f"{path}: {reason}; `python -m stages.settings` writes the settings of everything that params.yaml's grid names"
        ) from None
