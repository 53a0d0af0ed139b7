"""The pipeline's stages, one thin script each: read the stage's settings, call imix, write the outs.

A stage's identity comes on its command line, its settings from files in data/settings, machine facts from the
environment. Only the first stage, ``settings``, reads params.yaml.
"""

import re
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from imix.errors import Once, Options, UserError
from imix.settings import NAME, PRETRAINING, Mix, entry

REPORTS = Path("reports")


def arguments(description: str | None, *names: str, optional: Sequence[str] = ()) -> Namespace:
    """Parse the identity of a stage: each name a required option, ``seed`` a number, the others names as in params.yaml.

    Args:
        optional: names of options that may be left out, which then are None.

    Raises:
        UserError: an option that is missing, unknown or twice there; no number, no name, no method, no mix.
    """
    parser = Options(prog=f"python -m stages.{Path(sys.argv[0]).stem}", description=description)
    for name in (*names, *optional):
        parser.add_argument(f"--{name}", required=name in names, action=Once, metavar="NUMBER" if name == "seed" else "NAME")
    args = parser.parse_args()
    for name, value in vars(args).items():
        if name == "seed":
            if not re.fullmatch(r"0|[1-9][0-9]{0,9}", value) or int(value) >= 2**31:
                raise UserError(f"--seed = {value!r}: must be a whole number from 0 to 2,147,483,647")
            args.seed = int(value)
        elif value is not None and not re.fullmatch(NAME, value):
            raise UserError(f"--{name} = {value!r}: must be a name: at most 60 lower-case letters, digits and _, the first a letter")
    for name, allowed in {"method": PRETRAINING, "mix": dict.fromkeys(get_args(Mix))}.items():
        if name in names:
            entry(allowed, getattr(args, name), f"--{name}")
    return args


def say(label: str, does: str, writes: Path | Sequence[Path]) -> None:
    """The line that every stage starts with: what it does and what it will write."""
    paths = [writes] if isinstance(writes, Path) else writes
    print(f"{label}: {does} -> {', '.join(map(str, paths))}", file=sys.stderr, flush=True)


def tell(label: str, seed: int, figures: Mapping[str, Any]) -> None:
    """The line that an evaluation prints of each encoder."""
    print(f"{label}: seed {seed}: {figures['linear_accuracy']:.1f} % by linear evaluation", file=sys.stderr, flush=True)
