"""The pipeline's stages: thin scripts that read settings, call imix and write outputs.

What a stage works on (data set, cell, ablation) comes on its command line, its settings from files
in data/settings, machine facts from the environment. Only the first stage, ``settings``, reads
params.yaml. In each script ``asked`` is the content of the stage's file in data/settings: its
"settings", "seeds", and the fingerprints of its "code".
"""

import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imix import arithmetic
from imix.errors import Once, Options, UserError, exit_cleanly
from imix.schema import NAME

if TYPE_CHECKING:
    from imix.settings.study import Grid

exit_cleanly(arithmetic.choose)  # before a stage imports torch or NumPy

REPORTS = Path("reports")
CHOICES = {"augmentation": ("augmented", "clean"), "mix": ("none", "imix", "icutmix")}


def arguments(description: str | None, *names: str, optional: Sequence[str] = ()) -> Namespace:
    """Parse what a stage works on; each name is a required option.

    Args:
        optional: names of options that may be left out, which then are None.

    Raises:
        UserError: an option that is missing, unknown or repeated, or a value that is no name.
    """
    parser = Options(prog=f"python -m stages.{Path(sys.argv[0]).stem}", description=description)
    for name in (*names, *optional):
        parser.add_argument(f"--{name}", required=name in names, action=Once, metavar="NAME")
    args = parser.parse_args()
    for name, value in vars(args).items():
        if value is not None and not re.fullmatch(NAME, value):
            raise UserError(f"--{name} = {value!r}: must be a name: at most 60 lower-case letters, digits and _")
        if name in CHOICES and value not in CHOICES[name]:
            raise UserError(f"--{name} = {value!r}: must be one of {', '.join(CHOICES[name])}")
    return args


def grid_of(study: str) -> "Grid":
    """Return the current grid, whose name ``study`` must be: reports go to the study's folder.

    Raises:
        UserError: another name, or no settings.
    """
    from imix.schema import entry
    from imix.settings import files
    from imix.settings.study import Grid

    grid = Grid.model_validate(files.read("grid")["settings"])
    return entry({grid.name: grid}, study, "--study: grid.name")


def announce(label: str, does: str, *writes: Path) -> None:
    """Print what a stage does and what it will write."""
    print(f"{label}: {does} -> {', '.join(map(str, writes))}", file=sys.stderr, flush=True)
