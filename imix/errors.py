"""The one exception that means 'the user can mend this', and how a command ends on it."""

import gc
import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake outside the code: settings, archives, checkpoints or environment.

    Its text is one line that names the file or variable, the value and what is allowed.
    """


def exit_cleanly(main: Callable[[], None]) -> None:
    """Run ``main``; a UserError becomes one line on stderr and exit code 1, Ctrl-C exit code 130.

    Python's collector looks less often, and not at all at the end: importing torch leaves it nothing to collect, which it
    takes half a second of every stage to find.
    """
    gc.set_threshold(100_000)
    try:
        main()
    except UserError as error:
        sys.exit(f"imix: error: {error}")
    except KeyboardInterrupt:
        print("imix: interrupted; what was finished is kept", file=sys.stderr)
        sys.exit(130)
    finally:
        gc.freeze()
