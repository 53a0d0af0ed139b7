"""The pipeline's stages, one thin script each: read the stage's settings, call imix, write the outs.

A stage's identity comes on its command line, its settings from its own file in data/settings, machine facts from the
environment. Only the first stage, ``settings``, reads params.yaml.
"""

import re
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from imix.errors import Once, Options, UserError
from imix.files import DATA, ablation_folder, encoder_folder, metrics_file, metrics_folder
from imix.settings import NAME, PRETRAINING, Mix, entry

REPORTS = Path("reports")

__all__ = [
    "DATA", "REPORTS", "ablation_folder", "arguments", "encoder_folder", "encoders", "metrics_file", "metrics_folder", "say", "tell",
]  # fmt: skip


def arguments(description: str | None, *names: str) -> Namespace:
    """Parse the identity of a stage: each name a required option, ``seed`` a number, the others names as in params.yaml.

    Raises:
        UserError: an option that is missing, unknown or twice there; no number, no name, no method, no mix.
    """
    parser = Options(prog=f"python -m stages.{Path(sys.argv[0]).stem}", description=description)
    for name in names:
        parser.add_argument(f"--{name}", required=True, action=Once, metavar="NUMBER" if name == "seed" else "NAME")
    args = parser.parse_args()
    for name, value in vars(args).items():
        if name == "seed":
            if not re.fullmatch(r"0|[1-9][0-9]{0,9}", value) or int(value) >= 2**31:
                raise UserError(f"--seed = {value!r}: must be a whole number from 0 to 2,147,483,647")
            args.seed = int(value)
        elif not re.fullmatch(NAME, value):
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


def encoders(dataset: str, method: str, mix: str) -> dict[int, Path]:
    """The encoder files that a cell's trainings wrote, by seed: of every seed that is there, so that they alone decide what is judged.

    Raises:
        UserError: there is none.
    """
    folder = encoder_folder(dataset, method, mix)
    found = {int(path.parent.name): path for path in folder.glob("*/encoder.safetensors") if path.parent.name.isdecimal()}
    if not found:
        raise UserError(f"{folder}: no */encoder.safetensors there; `python -m stages.pretrain` makes one for each seed")
    return dict(sorted(found.items()))
