"""The identity of a piece of work: one hash of its settings, its data, and the code that it runs.

Stages, store, resume and plan all use it. Code counts by its tokens, without comments, docstrings and line
breaks, and only the modules that a cell runs count: those that its entry points import, directly or not,
which leaves out other methods and other domains.
"""

import ast
import hashlib
import io
import json
import tokenize
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from imix import plugins

ROOT = Path(__file__).parents[1]
# what these do cannot change a result: how names are found, errors and progress are printed, files written,
# work is spread over processes and kept
WITHOUT_EFFECT = {
    "imix", "imix.errors", "imix.files", "imix.identity", "imix.paths", "imix.plugins", "imix.progress", "imix.running",
    "imix.schema", "imix.settings", "imix.store",
}  # fmt: skip


def training_code(method: str, domain: str) -> str:
    """Return the fingerprint of the code that trains one method on one domain."""
    return fingerprint("imix.pretraining", f"imix.methods.{method}", f"imix.views.{domain}")


def evaluation_code(domain: str) -> str:
    """Return the fingerprint of the code that evaluates encoders of one domain."""
    return fingerprint("imix.evaluation", f"imix.views.{domain}")


def source_code(source: str) -> str:
    """Return the fingerprint of the code that fetches and preprocesses one source."""
    kind = plugins.find("datasets", source).KIND
    return fingerprint(f"imix.datasets.{source}", "imix.dataset", f"imix.views.{kind}")


@cache
def fingerprint(*modules: str, follow: bool = True) -> str:
    """Return the SHA-256 of the tokens of these modules and, to ``follow``, of all of imix that they import."""
    files = closure(modules) if follow else [path for path in map(_file, modules) if path]
    return digest([[path.name, tokens(path.read_text(encoding="utf-8"))] for path in files])


def digest(content: Any) -> str:
    """Return the SHA-256 of a value that JSON can write."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def closure(modules: Iterable[str]) -> list[Path]:
    """Return the files of some modules and of all that they import of imix, but for `WITHOUT_EFFECT`, sorted."""
    found: dict[str, Path] = {}
    left = list(modules)
    while left:
        name = left.pop()
        path = _file(name)
        if path and name not in found and name not in WITHOUT_EFFECT:
            found[name] = path
            left += _imports(path)
    return sorted(found.values())


def _file(module: str) -> Path | None:
    """Return the file of a module of this project; None for names that are no module."""
    path = ROOT.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _imports(path: Path) -> Iterator[str]:
    """Yield the names under imix that a file imports, anywhere in it; some are no modules."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("imix"))
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "imix":
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def tokens(source: str) -> list[str]:
    """Return the tokens of a module without comments, docstrings and line breaks, the same on Python 3.10 to 3.14."""
    marks = {tokenize.INDENT: "<indent>", tokenize.DEDENT: "<dedent>"}
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.ENDMARKER}
    result: list[str] = []
    line: list[tuple[int, str]] = []
    for kind, text in _whole_strings(source):
        if kind in marks:
            result.append(marks[kind])
        elif kind == tokenize.NEWLINE:
            if any(kind != tokenize.STRING for kind, _ in line):  # strings by themselves do nothing
                result += [*(text for _, text in line), "<newline>"]
            line = []
        elif kind not in skipped:
            line.append((kind, text))
    return result


def _whole_strings(source: str) -> Iterator[tuple[int, str]]:
    """Yield the tokens with each f-string as one string; Python 3.12 and later split them."""
    lines, depth, start = source.splitlines(keepends=True), 0, (0, 0)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        name = tokenize.tok_name[token.type]
        if name.endswith("STRING_START"):
            start = start if depth else token.start
            depth += 1
        elif name.endswith("STRING_END"):
            depth -= 1
            if not depth:
                yield tokenize.STRING, _between(lines, start, token.end)
        elif not depth:
            yield token.type, token.string


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    """Return the text from one (row, column) to another."""
    text = [*lines[start[0] - 1 : end[0]]]
    text[-1] = text[-1][: end[1]]
    text[0] = text[0][start[1] :]
    return "".join(text)
