"""The files that hand stages their settings, and tell DVC what else decides the result of one that trains or judges: its code."""

from pathlib import Path
from typing import Any, Generic

from pydantic import ValidationError

from imix.errors import UserError
from imix.files import write_json
from imix.settings.code import CODE, fingerprint, hashes
from imix.schema import Model, Strict
from imix.settings.merging import data, evaluation, resolve, variants
from imix.settings.study import Params

FOLDER = Path("data/settings")
ABLATIONS = Path("data/ablations/settings")  # beside the results, so that a report depends on one folder, which is always there


class _Handed(Strict, Generic[Model]):
    """What such a file says. ``code``: the fingerprint of a stage that trains or judges; others name their modules in dvc.yaml."""

    settings: Model
    code: str | None = None


def resolved(params: Params, folder: Path = FOLDER, ablations: Path = ABLATIONS) -> dict[Path, dict[str, Any]]:
    """What each file says, by its path; also ``code.json``, for the record: the modules that train and judge the grid."""
    grid, files = params.grid, {}

    def hand(path: Path, settings: Strict, kind: str | None = None) -> None:
        files[path] = {"settings": settings.model_dump(), "code": kind and codes[kind]}

    codes = {kind: fingerprint(kind) for kind in CODE}
    for dataset in grid.datasets:
        source, rows = data(params, dataset)
        hand(folder / dataset / "source.json", source)
        hand(folder / dataset / "rows.json", rows)
        for kind in ("evaluate", "baseline"):
            hand(folder / dataset / f"{kind}.json", evaluation(params, dataset), kind)
        for method, mix in grid.cells():
            hand(folder / dataset / method / f"{mix}.json", resolve(params, dataset, method, mix), "pretrain")
    for name in params.ablations.run:
        for dataset in params.ablations.datasets:
            hand(ablations / name / f"{dataset}.json", variants(params, name, dataset), "ablate")
    hand(folder / "grid.json", grid)
    hand(folder / "transfer.json", params.transfer)
    hand(folder / "projection.json", params.projection)
    hand(ablations / "asked.json", params.ablations)
    return files | {
        folder / "code.json": {path: value for kind in ("pretrain", "evaluate", "baseline") for path, value in hashes(kind).items()}
    }


def write(params: Params, folder: Path = FOLDER, ablations: Path = ABLATIONS) -> None:
    """Write what is `resolved` where `read` looks for it."""
    for path, content in resolved(params, folder, ablations).items():
        write_json(path, content)


def read(model: type[Model], *name: str, code: str | None = None, folder: Path = FOLDER) -> Model:
    """Read the settings that `write` wrote: ``read(Evaluation, "mnist", "evaluate", code="evaluate")``.

    Args:
        code: the kind of stage that asks, if the file has its fingerprint: it must be of the code that runs.

    Raises:
        UserError: no such file, one that `write` did not write, or one of other code.
    """
    path = folder.joinpath(*name).with_suffix(".json")
    again = "`dvc repro settings` writes the settings of everything that params.yaml's grid names"
    try:
        handed = _Handed[model].model_validate_json(path.read_bytes())  # type: ignore[valid-type]
    except (OSError, ValidationError) as error:
        reason = "not there" if isinstance(error, OSError) else str(error).splitlines()[0]
        raise UserError(f"{path}: {reason}; {again}") from None
    if code and handed.code != fingerprint(code):
        raise UserError(f"{path}: the code has changed since this was written; {again}")
    return handed.settings
