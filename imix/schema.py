"""Building blocks of all settings: strict models, values with limits, and one-line errors.

Every number has an upper limit, so that a value no machine can hold is refused here and not by a
traceback of torch's.
"""

import difflib
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from imix.errors import UserError

Model = TypeVar("Model", bound=BaseModel)
LONGEST = 100  # characters of a value that a message shows


class Strict(BaseModel):
    """No unknown keys, no guessing of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@dataclass(frozen=True)
class Says:
    """Tells what is ``allowed`` in place of whatever pydantic finds wrong."""

    allowed: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Wrap the checks that stand before this one."""
        return core_schema.no_info_wrap_validator_function(self._check, handler(source))

    def _check(self, value: Any, inner: Any) -> Any:
        try:
            result = inner(value)
        except (ValidationError, OverflowError):
            result = None
        if result is None or not self._fits(result):
            raise PydanticCustomError("allowed", "must be {allowed}", {"allowed": self.allowed})
        return result

    def _fits(self, value: Any) -> bool:
        return True


@dataclass(frozen=True, init=False)
class Within(Says):
    """A number from ``low`` to ``high``, or, if ``inside``, between them."""

    low: float
    high: float
    inside: bool

    def __init__(self, low: float, high: float, inside: bool = False) -> None:
        whole = isinstance(low, int)
        text = f"a whole number from {low:,} to {high:,}" if whole else f"a number from {low:g} to {high:g}"
        text = f"a number above {low:g} and below {high:g}" if inside else text
        for name, value in {"low": low, "high": high, "inside": inside, "allowed": text}.items():
            object.__setattr__(self, name, value)

    def _fits(self, value: Any) -> bool:  # NaN fits nowhere
        return self.low < value < self.high if self.inside else self.low <= value <= self.high


NAME = r"^[a-z][a-z0-9_]{0,59}$"
Name = Annotated[str, Field(pattern=NAME), Says("a name: at most 60 lower-case letters, digits and _, the first a letter")]
Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f|]{1,200}$"), Says("one line of at most 200 characters, without |")]
Seed = Annotated[int, Within(0, 2**31 - 1)]
Count = Annotated[int, Within(1, 10_000_000)]
Epochs = Annotated[int, Within(1, 1_000_000)]
Rate = Annotated[float, Within(1e-9, 1e4)]
Momentum = Annotated[float, Within(0.0, 0.99999)]
Fraction = Annotated[float, Within(0.0, 1.0)]
Share = Annotated[float, Within(0.0, 1.0, inside=True)]
Below = Annotated[float, Within(0.0, 0.99)]
Positive = Annotated[float, Within(0.001, 1000.0)]
Alpha = Annotated[float, Within(0.01, 1000.0)]  # as imix.mixing.ALPHA_RANGE


def rising(name: str, values: list[int], epochs: int) -> None:
    """Raise ValueError unless each value lies above the one before it, and all below ``epochs``."""
    if any(later <= earlier for earlier, later in pairwise(values)):
        raise ValueError(f"{name} {values} must rise")
    if values and values[-1] >= epochs:
        raise ValueError(f"{name} {values} must lie below epochs {epochs}")


def once(name: str, values: list[Any]) -> None:
    """Raise ValueError if a value stands twice."""
    if any(values.count(value) > 1 for value in values):
        raise ValueError(f"{name} {values} names a value twice; each must stand once")


def nearest(key: object, allowed: Iterable[str]) -> str:
    """``; did you mean 'x'?``, or nothing."""
    near = difflib.get_close_matches(key, list(allowed), 1) if isinstance(key, str) else []
    return f"; did you mean {near[0]!r}?" if near else ""


def shown(value: object) -> str:
    """A value in a message: what it is, on one line, cut short."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = LONGEST
    short.maxlist = short.maxdict = 12
    return short.repr(value)


def entry(block: Mapping[str, Any], key: str, where: str) -> Any:
    """``block[key]``.

    Raises:
        UserError: no such key; with the nearest one, and all.
    """
    if key not in block:
        near = difflib.get_close_matches(key, block, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise UserError(f"{where}: no entry {shown(key)}{hint}; there are: {', '.join(sorted(block)) or 'none'}")
    return block[key]


# what pydantic says in its own words, in ours
WORDS = {
    "dict_type": "must be a block of keys",
    "model_type": "must be a block of keys",
    "model_attributes_type": "must be a block of keys",
    "list_type": "must be a list, as in [a, b]",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "missing": "is missing",
}


def validated(model: type[Model], raw: Mapping[str, Any], file: str, origin: Mapping[str, str] | None = None, whole: str = "") -> Model:
    """Validate; of several errors the first is told, in one line: file, key, value, what is allowed.

    Args:
        origin: the block that each key came from, where there are several. whole: the block of all other keys.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    kind, context, value = first["type"], first.get("ctx", {}), first["input"]
    keys = [str(part) for place, part in enumerate(first["loc"]) if not _is_tag(first["loc"], place)]
    message = WORDS.get(kind, first["msg"].removeprefix("Value error, ").replace("Input should be", "must be"))
    if kind == "extra_forbidden":
        known = [name for name in _fields(model, first["loc"][:-1]) if name != "mix"]  # the name of a cell
        message = f"unknown key{nearest(keys[-1], known)}" + (f"; allowed: {', '.join(known)}" if known else "")
    elif kind == "literal_error":
        allowed = str(context["expected"]).replace(" or ", ", ").replace("'", "").split(", ")
        message += nearest(value, allowed)
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        keys.append(str(context["discriminator"]).strip("'"))
        tags = str(context.get("expected_tags", "")).replace("'", "").split(", ")
        value = context.get("tag")
        message = f"must be one of {', '.join(tags)}{nearest(value, tags)}" if value else "is missing"
    elif kind in ("too_short", "too_long"):
        wanted, bound = (context["min_length"], "at least") if kind == "too_short" else (context["max_length"], "at most")
        message = f"must have {bound} {wanted} {'entry' if wanted == 1 else 'entries'}"
    # of what does not fit together, the message names the first key
    prefix = (origin or {}).get(keys[0] if keys else message.split()[0], whole)
    if not keys and prefix != whole:
        message += f" (in {whole})"
    key = ".".join(filter(None, [prefix, *keys]))
    if first["loc"] and first["loc"][-1] == "[key]":
        kind, message = "value_error", f"unknown key; {message}"
    equals = "" if message == "is missing" or kind == "value_error" else f" = {shown(value)}"
    raise UserError(f"{file}: {key or 'top level'}{equals}: {message}") from None


def _is_tag(path: tuple[Any, ...], place: int) -> bool:
    """Whether a part of pydantic's path is no key of the file: the kind of a block, or the mark of a wrong key."""
    return path[place] == "[key]" or (place > 0 and path[place - 1] in ("encoder", "views", "source"))


def _fields(model: Any, path: tuple[Any, ...]) -> list[str]:
    """The keys of the block at pydantic's ``path`` in ``model``."""
    for part in path:
        if isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[part].annotation if part in model.model_fields else None
        else:
            model = _inner(model, part)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _inner(annotation: Any, part: Any) -> Any:
    """What ``annotation`` has at ``part``: the member of a union with that kind, or the values of a mapping or list."""
    arguments = [argument for argument in getattr(annotation, "__args__", ()) if argument is not type(None)]
    for argument in arguments:
        fields = getattr(argument, "model_fields", {})
        for tag in ("kind", "name"):
            if tag in fields and part in getattr(fields[tag].annotation, "__args__", ()):
                return argument
    return arguments[-1] if arguments else None
