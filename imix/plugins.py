"""Find the modules that declare a data set, a method or a domain, by their file's name.

A module dropped into ``imix/datasets``, ``imix/methods`` or ``imix/views`` is known everywhere: no list
names it.
"""

import pkgutil
from importlib import import_module
from types import ModuleType

from imix.schema import entry


def names(package: str) -> list[str]:
    """Return the names of the modules in ``imix.<package>``, sorted; ``base`` holds what they share."""
    path = import_module(f"imix.{package}").__path__
    return sorted(module.name for module in pkgutil.iter_modules(path) if module.name != "base")


def find(package: str, name: str, where: str = "") -> ModuleType:
    """Import ``imix.<package>.<name>``.

    Args:
        where: what an error names, as in "params.yaml: grid.methods".

    Raises:
        UserError: no such module, with the nearest name and all of them.
    """
    entry(dict.fromkeys(names(package)), name, where or f"imix/{package}")
    return import_module(f"imix.{package}.{name}")
