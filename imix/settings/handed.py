"""The files that hand each stage the settings that are its own."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from imix.errors import UserError
from imix.files import write_json
from imix.settings.fields import Model, Strict
from imix.settings.merging import data, evaluation, resolve, variants
from imix.settings.study import Params

FOLDER = Path("data/settings")
ABLATIONS = Path("data/ablations/settings")  # beside the results, so that a report depends on one folder, which is always there


def resolved(params: Params, folder: Path = FOLDER, ablations: Path = ABLATIONS) -> dict[Path, dict[str, Any]]:
    """What each file says: the settings of everything in the grid and of its ablations, one file per stage."""
    grid = params.grid
    files: dict[Path, Strict] = {folder / "grid.json": grid}
    for dataset in grid.datasets:
        source, rows = data(params, dataset)
        own: dict[str, Strict] = {"source": source, "rows": rows, "evaluation": evaluation(params, dataset)}
        own |= {f"{method}/{mix}": resolve(params, dataset, method, mix) for method, mix in grid.cells()}
        files |= {folder / dataset / f"{name}.json": settings for name, settings in own.items()}
    for name in params.ablations.run:
        for dataset in params.ablations.datasets:
            files[ablations / name / f"{dataset}.json"] = variants(params, name, dataset)
    files |= {folder / "transfer.json": params.transfer, folder / "projection.json": params.projection}
    files[ablations / "asked.json"] = params.ablations
    return {path: settings.model_dump() for path, settings in files.items()}


def write(params: Params, folder: Path = FOLDER, ablations: Path = ABLATIONS) -> None:
    """Write what is `resolved` where `read` looks for it."""
    for path, content in resolved(params, folder, ablations).items():
        write_json(path, content)


def read(model: type[Model], *name: str, folder: Path = FOLDER) -> Model:
    """Read what `write` wrote: ``read(Evaluation, "mnist", "evaluation")``.

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
