"""What a Python file does, as tokens: without comments, docstrings and line breaks.

They are the same on Python 3.10 to 3.14.

Imports the standard library alone, so that the tests can run it on every Python.
"""

import io
import tokenize
from collections.abc import Iterator

SKIPPED = {tokenize.COMMENT, tokenize.NL, tokenize.ENDMARKER}
MARKS = {tokenize.INDENT: "<indent>", tokenize.DEDENT: "<dedent>"}  # whatever the width


def tokens(source: str) -> list[str]:
    """Return the tokens of a module.

    Lines that are strings by themselves, as docstrings are, do nothing.
    """
    result: list[str] = []
    line: list[tuple[int, str]] = []
    for kind, text in _whole_strings(source):
        if kind in MARKS:
            result.append(MARKS[kind])
        elif kind == tokenize.NEWLINE:
            if not all(_is_plain_string(*token) for token in line):
                result += [*(text for _, text in line), "<newline>"]
            line = []
        elif kind not in SKIPPED:
            line.append((kind, text))
    return result


def _is_plain_string(kind: int, text: str) -> bool:
    """Whether a token is a string whose evaluation runs nothing, as an f-string's may."""
    return kind == tokenize.STRING and not set(text[: text.find(text[-1])]) & set("fFtT")


def _whole_strings(source: str) -> Iterator[tuple[int, str]]:
    """Yield kind and text of each token.

    An f-string is one string: Python 3.12 and later split it.
    """
    lines, depth, start = list(io.StringIO(source)), 0, (0, 0)
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
    """Return the text from one (row, column) to another; rows count from 1."""
    text = lines[start[0] - 1 : end[0]]
    text[-1] = text[-1][: end[1]]
    text[0] = text[0][start[1] :]
    return "".join(text)
