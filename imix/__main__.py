"""The command line of i-Mix: what a study costs, whether it can run, why a stage is stale, what its results are."""

import argparse
import sys
from importlib import import_module

from imix import arithmetic
from imix.errors import Options, exit_cleanly

# a command and its line in `imix --help`; the rest of it is in imix/commands/<name>.py
COMMANDS = {
    "check": "check settings, data and machine before a study runs",
    "plan": "print what a study costs before it runs: trainings, operations, memory, time",
    "run": "run stale stages side by side, on this machine or on a Dask cluster",
    "curves": "print how far trainings are, and write their curves so far for `dvc plots`",
    "explain": "print where a stage's settings come from, and why it would run",
    "report": "print the results of a study that has run",
    "store": "list or prune the finished and unfinished trainings in .imix",
    "encode": "write the features of raw data by a trained encoder",
    "readme": "write the results of reports/ into README.md",
}
EXAMPLES = """
examples:
  imix check
  imix plan -S 'grid.datasets=[diamonds]'
  imix explain pretrain@mnist-clean-moco-imix
  imix report embedded --gains

`python -m imix` is the same command. Pipeline stages run with `dvc repro`; README.md says how.
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
