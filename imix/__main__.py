"""``python -m imix plan``: what the study of params.yaml will cost, before it is paid."""

from imix.errors import Options, UserError, exit_cleanly

NOTE = """
Counts are 'left of all'; steps, operations (a multiplication and an addition are two), memory and time left are of what is left.
Memory: of the largest process; rows, weights, what the backward pass keeps, features. Downloads are not timed.
Time: {time}; start-up as measured here; reading data and reporting as on one core of an AMD EPYC.
{done}
"""
DONE = (
    "Left out: stages that dvc.lock or DVC's run-cache knows with the same command, code, data and settings, and whose outputs lie\n"
    "in DVC's cache; trainings of ablations whose results lie in data/ablations."
)


def main() -> None:
    """Print the plan."""
    parser = Options(prog="python -m imix", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    planning = commands.add_parser("plan", help="trainings, steps, operations, memory and time of the study, what is done left out")
    planning.add_argument("--rate", type=float, help="operations a second that another device reaches, e.g. 2e13; no step is timed then")
    planning.add_argument("--memory", type=float, help="GB of the device: say what does not fit")
    planning.add_argument("--cells", action="store_true", help="a line for every training, too")
    planning.add_argument("-S", metavar="key=value", action="append", default=[], help="change a parameter, as `dvc exp run -S` does")
    args = parser.parse_args()
    for change in args.S:
        if "=" not in change:
            raise UserError(f"-S {change!r}: must be key=value, as in grid.seeds=[0]")
    for name, unit in (("rate", "operations a second"), ("memory", "GB")):
        value = getattr(args, name)
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"--{name} = {value}: must be a positive number of {unit}")

    from imix import settings

    params = settings.load(changes=dict(change.partition("=")[::2] for change in args.S))

    from imix import planning as costs
    from imix import runtime
    from imix.planning import table

    machine = costs.Machine(runtime.configure(), args.rate, runtime.resume_folder() / "timings.json")
    cached = costs.cached(params)
    jobs = costs.plan(params, machine, cached)
    measured = f"as timed on this machine's {machine.device}, without what other programs take from one thread"
    time = f"at {args.rate:g} operations a second" if args.rate else measured
    print(table.table(jobs, machine, args.cells))
    if args.memory:
        print(table.fits(jobs, args.memory * 1e9))
    print(NOTE.format(time=time, done=DONE if cached else "No DVC repository here: nothing is known to be done.").strip())


if __name__ == "__main__":
    exit_cleanly(main)
