"""params.yaml with changes from the command line, made by DVC's own code for `dvc exp run -S`."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from imix.errors import UserError
from imix.settings import loading, text
from imix.settings.merging import PARAMS
from imix.settings.study import Params


def changed(folder: Path, changes: Sequence[str]) -> Params:
    """Copy params.yaml into ``folder`` and load it with ``changes``, each ``key=value``.

    Raises:
        UserError: a change that DVC or the settings refuse.
    """
    path = folder / PARAMS
    if changes or not PARAMS.is_file():
        text.read(PARAMS)  # says what is wrong with it
    shutil.copy(PARAMS, path)
    if changes:
        _override(path, changes, PARAMS.name)
    try:
        return loading.load(path)
    except UserError as error:
        raise UserError(str(error).replace(str(path), PARAMS.name)) from None


def _override(path: Path, changes: Sequence[str], name: str) -> None:
    from dvc.exceptions import DvcException
    from dvc.utils.cli_parse import to_path_overrides
    from dvc.utils.hydra import apply_overrides, to_hydra_overrides
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    grouped = to_path_overrides(changes)
    own = grouped.pop(name, [])
    if grouped:
        raise UserError(f"-S {next(iter(grouped))}:...: another file; must be a key of {name}")
    try:
        if sweeps := [each.input_line for each in to_hydra_overrides(own) if each.is_sweep_override()]:
            raise UserError(f"-S {sweeps[0]}: several values; must be one, and a list is written as [a,b]")
        apply_overrides(path, own)
    except (DvcException, HydraException, OmegaConfBaseException, LookupError, TypeError, ValueError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise UserError(f"-S {' '.join(own)}: {reason}; must be key=value, as in grid.seeds=[0]") from None
