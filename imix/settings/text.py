"""params.yaml as text: the part of YAML that two readers read alike.

DVC reads the file too, as YAML 1.2 and with `ruamel.yaml`; we read it with PyYAML, which knows YAML 1.1. What they would
read differently (010, yes, 1:30), or what makes ``dvc exp run -S`` change nothing without a word (anchors and merge keys),
is refused, and so is a key that stands twice.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from imix.errors import UserError
from imix.schema import shown

SILENT = "are not allowed: with them `dvc exp run -S` changes nothing; must be written out"
LARGEST = 1_000_000  # bytes
PLAIN = {
    "tag:yaml.org,2002:int": (r"[-+]?(0|[1-9][0-9]{0,99})", "a whole number of at most 100 plain digits"),
    "tag:yaml.org,2002:bool": (r"true|false|True|False|TRUE|FALSE", "true or false, or text in quotes"),
    "tag:yaml.org,2002:float": (r"[^:_]+", "a number without : and _"),
    "tag:yaml.org,2002:null": (r"null|~|", "null"),
    "tag:yaml.org,2002:str": (r"(?s:.*)", ""),
}


class _Loader(yaml.SafeLoader):
    """A safe loader that says where something stands, and reads 1e-5 as a number, as DVC does."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise self.refusal(event, f"anchors and aliases (&, *) {SILENT}")
        if getattr(event, "tag", None):
            raise self.refusal(event, f"the tag {shown(event.tag)} is not allowed; only plain values are")
        return super().compose_node(parent, index)  # type: ignore[no-untyped-call]

    def refusal(self, at: Any, text: str) -> UserError:
        """The error for what stands at an event or node."""
        return UserError(f"{self.name}: line {at.start_mark.line + 1}: {text}")

    def plain(self, node: yaml.ScalarNode) -> Any:
        """A value that both versions of YAML read alike."""
        allowed = PLAIN.get(node.tag)
        if allowed is None or (node.style is None and not re.fullmatch(allowed[0], node.value)):
            wanted = allowed[1] if allowed else "text in quotes"
            raise self.refusal(node, f"{shown(node.value)} is not the same to all readers of YAML; must be {wanted}")
        return {
            "tag:yaml.org,2002:int": self.construct_yaml_int,
            "tag:yaml.org,2002:bool": self.construct_yaml_bool,
            "tag:yaml.org,2002:float": self.construct_yaml_float,
            "tag:yaml.org,2002:null": self.construct_yaml_null,
            "tag:yaml.org,2002:str": self.construct_yaml_str,
        }[node.tag](node)

    def mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        """A block whose keys are text, each of them once."""
        block: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.value == "<<" or key_node.tag == "tag:yaml.org,2002:merge":
                raise self.refusal(key_node, f"merge keys (<<) {SILENT}")
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            if not isinstance(key, str) or not key.isprintable():
                raise self.refusal(key_node, f"the key {shown(key)} is not a name; keys must be names, such as epochs")
            if key in block:
                raise self.refusal(key_node, f"the key {shown(key)} stands twice; each must stand once")
            block[key] = self.construct_object(value_node, deep=True)  # type: ignore[no-untyped-call]
        return block


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789"))
for _tag in (*PLAIN, "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value"):
    _Loader.add_constructor(_tag, _Loader.plain)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _Loader.mapping)


def parse(text: str, name: str) -> Any:
    """The value that one YAML document says. ``name``: of the file, for errors.

    Raises:
        UserError: not YAML, or not the part of it that is allowed.
    """
    try:
        loader = _Loader(text)
        loader.name = name
        return loader.get_single_data()
    except RecursionError:
        raise UserError(f"{name}: not YAML that can be read: nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
        tabs = "; indent with spaces" if "\\t" in str(problem) else ""
        raise UserError(f"{name}: {where}not YAML: {' '.join(str(problem).split())}{tabs}") from None


def read(path: Path) -> Any:
    """What a file says.

    Raises:
        UserError: a file that is not there, too large, not UTF-8 or not YAML.
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
