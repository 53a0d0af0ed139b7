"""``python -m imix plan``: what the grid of params.yaml will cost, before it is paid."""

import os
from pathlib import Path

from imix.errors import Options, UserError, exit_cleanly

NOTE = (
    "Per training: steps, floating-point operations (a multiplication and an addition are two), memory of weights and of what the backward "
    "pass keeps, hours.\nStart-up, kNN monitoring and evaluation come on top. Left: those without an encoder of the same settings. {source}"
)


def main() -> None:
    """Print the plan."""
    parser = Options(prog="python -m imix", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    planning = commands.add_parser("plan", help="steps, operations, memory and hours of the grid")
    planning.add_argument("--rate", type=float, help="operations a second that another device reaches, e.g. 2e13; nothing is timed then")
    planning.add_argument("-S", metavar="key=value", action="append", default=[], help="change a parameter, as `dvc exp run -S` does")
    args = parser.parse_args()
    rate, changes = args.rate, dict(change.partition("=")[::2] for change in args.S)
    for change in args.S:
        if "=" not in change:
            raise UserError(f"-S {change!r}: must be key=value, as in grid.seeds=[0]")
    if rate is not None and not 0 < rate < float("inf"):
        raise UserError(f"--rate = {rate}: must be a positive number of operations a second")

    from imix import settings

    params = settings.load(changes=changes)

    from imix import planning as costs
    from imix import runtime

    device, cache = runtime.configure(0), Path(os.environ.get("IMIX_RESUME", ".resume"), "timings.json")
    plans = costs.plan(params, device, rate, cache)
    source = f"At {rate:g} operations a second." if rate else f"From {costs.STEPS} steps timed on this machine's {device}."
    print(costs.table(plans) + NOTE.format(source=source))


if __name__ == "__main__":
    exit_cleanly(main)
