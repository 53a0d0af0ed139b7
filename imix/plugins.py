"""Find the modules that declare a data set, a method or a domain, by their file's name.

A module dropped into ``imix/datasets``, ``imix/methods`` or ``imix/views`` is known everywhere: no
list names it.
"""

import pkgutil
from functools import cache
from importlib import import_module
from types import ModuleType

from imix.errors import UserError
from imix.schema import entry

# what every module of a package must have
DECLARED = {
    "datasets": ("KIND", "CLASSES", "ORIGIN", "ARCHIVE", "Source", "Rows", "form", "fetch", "read"),
    "methods": ("TITLE", "Settings", "Method"),
    "views": ("Settings", "NEUTRAL", "Encoder", "Views", "seen", "check_rows"),
}


@cache
def names(package: str) -> list[str]:
    """Return the names of the modules in ``imix.<package>``, sorted.

    ``base`` holds what they share.
    """
    path = import_module(f"imix.{package}").__path__
    return sorted(module.name for module in pkgutil.iter_modules(path) if module.name != "base")


def find(package: str, name: str, where: str = "") -> ModuleType:
    """Import ``imix.<package>.<name>``.

    Args:
        where: what an error names, as in "params.yaml: grid.methods".

    Raises:
        UserError: no such module, with the nearest name and all of them; or one that lacks a
            declaration.
    """
    entry(dict.fromkeys(names(package)), name, where or f"imix/{package}")
    module = import_module(f"imix.{package}.{name}")
    wanted = DECLARED.get(package, ())
    if missing := [key for key in wanted if not hasattr(module, key)]:
        text = f"does not define {', '.join(missing)}; a module of imix/{package} must define {', '.join(wanted)}"
        raise UserError(f"imix/{package}/{name}.py: {text}")
    return module
