"""The files that hand each stage the settings that are its own, and tell DVC what else decides its result: its code."""

from pathlib import Path
from typing import Any, Generic

from pydantic import ValidationError

from imix.errors import UserError
from imix.files import write_json
from imix.settings.code import CODE, fingerprint, hashes
from imix.settings.fields import Model, Strict
from imix.settings.merging import data, evaluation, resolve, variants
from imix.settings.study import Params

FOLDER = Path("data/settings")
ABLATIONS = Path("data/ablations/settings")  # beside the results, so that a report depends on one folder, which is always there


class _Handed(Strict, Generic[Model]):
    """What such a file says. ``code``: of a stage of the grid its fingerprint; other stages name their modules in dvc.yaml."""

    settings: Model
    code: str | None = None


def resolved(params: Params, folder: Path = FOLDER, ablations: Path = ABLATIONS) -> dict[Path, dict[str, Any]]:
    """What each file says, one for every stage of everything in the grid and of its ablations; also ``code.json``, for the record."""
    grid, files = params.grid, {}

    def hand(path: Path, settings: Strict, kind: str | None = None) -> None:
        files[path] = {"settings": settings.model_dump(), "code": kind and codes[kind]}

    codes = {kind: fingerprint(kind) for kind in CODE}
    for dataset in grid.datasets:
        source, rows = data(params, dataset)
        hand(folder / dataset / "source.json", source)
        hand(folder / dataset / "rows.json", rows)
        for kind in ("evaluate", "baseline", "transfer"):
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
    return files | {folder / "code.json": {kind: hashes(kind) for kind in ("pretrain", "evaluate")}}


def write(params: Params, folder: Path = FOLDER, ablations: Path = ABLATIONS) -> None:
    """Write what is `resolved` where `read` looks for it."""
    for path, content in resolved(params, folder, ablations).items():
        write_json(path, content)


def read(model: type[Model], *name: str, folder: Path = FOLDER) -> Model:
    """Read the settings that `write` wrote: ``read(Evaluation, "mnist", "evaluate")``.

    Raises:
        UserError: no such file, or one that `write` did not write.
    """
    path = folder.joinpath(*name).with_suffix(".json")
    try:
        return _Handed[model].model_validate_json(path.read_bytes()).settings  # type: ignore[valid-type]
    except (OSError, ValidationError) as error:
        reason = "not there" if isinstance(error, OSError) else str(error).splitlines()[0]
        raise UserError(
            f"{path}: {reason}; `python -m stages.settings` writes the settings of everything that params.yaml's grid names"
        ) from None
