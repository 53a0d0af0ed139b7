"""Check, run, watch and read a study of i-Mix. A study is the grid of trainings in params.yaml."""

import argparse
import sys
from importlib import import_module

from imix import arithmetic
from imix.errors import Options, exit_cleanly

# a command and its line in `imix --help`; the rest of it is in imix/commands/<name>.py
COMMANDS = {
    "check": "before a run: check settings, data and machine",
    "plan": "before a run: print how many trainings it has, and the memory and time that it takes",
    "run": "run the stages that are not up to date side by side, here or on a Dask cluster",
    "curves": "during a run: print how far trainings are, and write their curves for `dvc plots`",
    "report": "after a run: print its results",
    "explain": "print where the settings of a stage come from, and why `dvc repro` would run it",
    "encode": "write the features of new data, computed by a trained encoder",
    "store": "list or remove the trainings and evaluations that are kept in .imix",
    "readme": "for developers: write the generated parts of README.md and docs/parameters.md",
}
EXAMPLES = """
examples:
  imix check
  imix plan -S 'grid.datasets=[diamonds]'
  dvc repro                                     run the study, one stage after the other
  imix report --gains
  imix explain pretrain@mnist-clean-moco-imix

Run commands in the project's folder. `imix COMMAND --help` explains one. `python -m imix` is the same as `imix`.
"""


def command() -> None:
    """Run the command that the arguments name."""
    arithmetic.choose()  # as stages do: `plan` times their steps
    parser = Options(
        prog="imix", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, line in COMMANDS.items():
        own = parsers.add_parser(name, help=line, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name in sys.argv[1:2]:
            module = import_module(f"imix.commands.{name}")
            own.description = module.__doc__
            own.set_defaults(run=module.run)
            module.options(own)
    args = parser.parse_args()
    args.run(args)


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 1."""
    exit_cleanly(command)


if __name__ == "__main__":
    main()
