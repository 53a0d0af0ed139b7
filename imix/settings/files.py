"""Read the files of data/settings, which the stage ``settings`` wrote.

This module imports neither torch nor the schema, so that stages start at once.
"""

import json
from typing import Any

from imix.errors import UserError
from imix.paths import SETTINGS

AGAIN = "`dvc repro settings` writes the settings of everything in params.yaml's grid"


def read(*name: str) -> dict[str, Any]:
    """Read one of the files: ``read("mnist", "evaluate")``.

    Raises:
        UserError: no such file, or one that `imix.settings.resolved.write` did not write.
    """
    path = SETTINGS.joinpath(*name).with_suffix(".json")
    try:
        content = json.loads(path.read_bytes())
        # looked up for the KeyError alone: an ablation's file has variants in place of settings
        content["settings" if "settings" in content else "variants"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = "is not there" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise UserError(f"{path}: {reason}; {AGAIN}") from None
    return content
