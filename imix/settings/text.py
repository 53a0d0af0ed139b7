"""params.yaml as text, read as DVC reads it: YAML 1.2, without anchors, tags and repeated keys."""

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent

from imix.errors import UserError
from imix.schema import shown

LARGEST = 1_000_000  # bytes
SILENT = "are not allowed: with them `dvc exp run -S` changes nothing; write the values out"


def parse(text: str, name: str) -> Any:
    """Return the value of one YAML document.

    Args:
        name: of the file, for errors.

    Raises:
        UserError: not YAML, or a part of it that is not allowed.
    """
    try:
        # events take as long as loading: needed only if a character could be one of these marks
        for event in YAML().parse(text) if re.search("[&*!]|<<", text) else ():
            line = f"{name}: line {event.start_mark.line + 1}"
            if isinstance(event, AliasEvent) or getattr(event, "anchor", None):
                raise UserError(f"{line}: anchors and aliases (&, *) {SILENT}")
            if getattr(event, "value", None) == "<<":
                raise UserError(f"{line}: merge keys (<<) {SILENT}")
            if getattr(event, "tag", None):
                raise UserError(f"{line}: the tag {shown(str(event.tag))} is not allowed; only plain values are")
        value = YAML(typ="safe", pure=True).load(text)
    except RecursionError:
        raise UserError(f"{name}: not YAML that can be read: nested too deeply") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = " ".join(str(error.problem).split())
        tabs = "; indent with spaces" if "\\t" in problem else ""
        raise UserError(f"{name}: {where}not YAML: {problem}{tabs}") from None
    except (YAMLError, ValueError) as error:
        raise UserError(f"{name}: not YAML: {' '.join(str(error).split())}") from None
    _check_keys(value, name)
    return value


def _check_keys(value: Any, name: str, path: str = "") -> None:
    """Refuse keys that `dvc exp run -S` cannot name."""
    if isinstance(value, list):
        for each in value:
            _check_keys(each, name, path)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str) or not key.isprintable():
                allowed = "keys must be names, such as epochs"
                raise UserError(f"{name}: {path or 'top level'}: the key {shown(key)} is not a name; {allowed}")
            _check_keys(inner, name, f"{path}.{key}" if path else key)


def read(path: Path) -> Any:
    """Return the value of a YAML file.

    Raises:
        UserError: a file that is missing, too large, not UTF-8 or not YAML.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        text = content.decode("utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; must be a file of YAML") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: cannot be read: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    if len(content) > LARGEST:
        raise UserError(f"{path}: cannot be read: must be at most {LARGEST:,} bytes")
    if text.startswith("\ufeff"):
        raise UserError(f"{path}: starts with a byte-order mark; save the file as UTF-8 without one")
    return parse(text, str(path))
