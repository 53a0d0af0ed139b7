"""Fingerprints of code, by which stages and the store know what is stale.

A fingerprint is a hash of the tokens (`imix.tokens`) of some modules and of all modules of imix
that they import, directly or not. So it changes with code, and neither with comments and docstrings
nor with the code of other methods and domains. It has two uses:

- `imix.settings.resolved` writes it into the files of data/settings, which stages depend on: the
  stage reruns when it changes.
- `imix.jobs` makes it part of the key of a training or evaluation in the store, with the settings,
  the seed and the data: finished work is taken from there as long as none of them changes.
"""

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from imix import plugins
from imix.tokens import tokens

ROOT = Path(__file__).parents[1]
# Modules that cannot change a result: they find names, print errors and progress, write files, and
# spread work over processes or keep it.
WITHOUT_EFFECT = frozenset({
    "imix", "imix.errors", "imix.files", "imix.identity", "imix.paths", "imix.plugins", "imix.preload", "imix.progress",
    "imix.running", "imix.schema", "imix.settings", "imix.store", "imix.tokens",
})  # fmt: skip


def training_code(method: str, domain: str) -> str:
    """Return the fingerprint of the code that trains one method on one domain."""
    return fingerprint("imix.pretraining", "imix.checkpoints", f"imix.methods.{method}", f"imix.views.{domain}")


def evaluation_code(domain: str) -> str:
    """Return the fingerprint of the code that reads and evaluates encoders of one domain."""
    return fingerprint("imix.evaluation", "imix.checkpoints", "imix.runtime", f"imix.views.{domain}")


def source_code(source: str) -> str:
    """Return the fingerprint of the code that fetches and preprocesses one source.

    Encoders do not count: a source of speech imports its views, for the statistics of spectrograms,
    and views import an encoder, which no source uses.
    """
    encoders = frozenset(f"imix.encoders.{name}" for name in plugins.names("encoders"))
    return fingerprint(f"imix.datasets.{source}", "imix.sources", without=encoders)


@cache
def fingerprint(*modules: str, follow: bool = True, without: frozenset[str] = frozenset()) -> str:
    """Return the SHA-256 of the tokens of some modules and of what they import of imix.

    Args:
        follow: whether what they import counts, too.
        without: modules that do not count, beside `WITHOUT_EFFECT`; used with ``follow`` alone.
    """
    files = closure(modules, without) if follow else [path for path in map(_file, modules) if path]
    return digest([[path.relative_to(ROOT).as_posix(), _tokens(path)] for path in files])


def digest(content: Any) -> str:
    """Return the SHA-256 of a value that JSON can write."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def closure(modules: Iterable[str], without: frozenset[str] = frozenset()) -> list[Path]:
    """Return the files of some modules and of all that they import of imix, sorted.

    Leaves out `WITHOUT_EFFECT`, the modules of ``without``, and what only these import.
    """
    found: dict[str, Path] = {}
    left = list(modules)
    while left:
        name = left.pop()
        path = _file(name)
        if path and name not in found and name not in WITHOUT_EFFECT | without:
            found[name] = path
            left += _imports(name, path)
    return sorted(found.values())


def _file(module: str) -> Path | None:
    """Return the file of a module of this project; None if there is no such module."""
    path = ROOT.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@cache  # most files are part of many fingerprints
def _tokens(path: Path) -> list[str]:
    return tokens(path.read_text(encoding="utf-8"))


@cache
def _imports(module: str, path: Path) -> list[str]:
    """Return the names of imix that a module imports anywhere.

    ``from a import b`` gives both "a" and "a.b", whether b is a module or not; `closure` skips
    names that are no modules.
    """
    names = []
    for node in _executed(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level or None] if node.level else []
            if path.name == "__init__.py" and node.level:  # its own name is the package
                package = module.split(".")[: 1 - node.level or None]
            name = ".".join([*package, *filter(None, [node.module])])
            names += [name, *(f"{name}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.split(".")[0] == "imix"]


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a syntax tree, without blocks that only type checkers read."""
    yield node
    test = getattr(node, "test", None)
    if isinstance(node, ast.If) and isinstance(test, ast.Name) and test.id == "TYPE_CHECKING":
        return
    for child in ast.iter_child_nodes(node):
        yield from _executed(child)
