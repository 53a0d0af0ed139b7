"""Building blocks of all settings: strict models, values with limits, and one-line errors.

Every number has an upper limit: a value that no machine can hold is refused here, not by a
traceback of torch.
"""

import difflib
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar

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
    """A type whose errors say what is ``allowed``, whatever pydantic finds wrong."""

    allowed: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Wrap the checks of the type that this annotates."""
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
    """A number from ``low`` to ``high``; with ``inside``, neither of the two."""

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
Name = Annotated[
    str, Field(pattern=NAME), Says("a name: at most 60 lower-case letters, digits and _, the first a letter")
]
Line = Annotated[
    str, Field(pattern=r"^[^\x00-\x1f\x7f|]{1,200}$"), Says("one line of at most 200 characters, without |")
]
Seed = Annotated[int, Within(0, 2**31 - 1)]
Count = Annotated[int, Within(1, 10_000_000)]
Epochs = Annotated[int, Within(1, 1_000_000)]
Rate = Annotated[float, Within(1e-9, 1e4)]
Momentum = Annotated[float, Within(0.0, 0.99999)]
Fraction = Annotated[float, Within(0.0, 1.0)]  # 0 and 1 included
ProperFraction = Annotated[float, Within(0.0, 1.0, inside=True)]  # above 0 and below 1
BelowOne = Annotated[float, Within(0.0, 0.99)]
Positive = Annotated[float, Within(0.001, 1000.0)]
Alpha = Annotated[float, Within(0.01, 1000.0)]  # below 0.01, Gamma variables underflow float64
Head = Literal["linear", "mlp", "mlpbn", "mlpbn1"]


def rising(name: str, values: list[int], epochs: int) -> None:
    """Raise ValueError unless the values rise, and all are below ``epochs``."""
    if any(later <= earlier for earlier, later in pairwise(values)):
        raise ValueError(f"{name} {values} must rise")
    if values and values[-1] >= epochs:
        raise ValueError(f"{name} {values} must be below epochs {epochs}")


def once(name: str, values: list[Any]) -> None:
    """Raise ValueError if a value is repeated."""
    if any(values.count(value) > 1 for value in values):
        raise ValueError(f"{name} {values} repeats a value; give each once")


def nearest(key: object, allowed: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?``, or nothing."""
    near = difflib.get_close_matches(key, list(allowed), 1) if isinstance(key, str) else []
    return f"; did you mean {near[0]!r}?" if near else ""


def shown(value: object) -> str:
    """Return a value as a message shows it: on one line, cut short."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = LONGEST
    short.maxlist = short.maxdict = 12
    try:
        return short.repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of thousands of digits"


def entry(block: Mapping[str, Any], key: str, where: str) -> Any:
    """Return ``block[key]``.

    Raises:
        UserError: no such key, with the nearest one and all of them.
    """
    if not isinstance(key, str) or key not in block:
        near = difflib.get_close_matches(key, block, 1) if isinstance(key, str) else []
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise UserError(f"{where}: no entry {shown(key)}{hint}; there are: {', '.join(sorted(block)) or 'none'}")
    return block[key]


# pydantic's messages, reworded
WORDS = {
    "dict_type": "must be a block of keys",
    "model_type": "must be a block of keys",
    "model_attributes_type": "must be a block of keys",
    "list_type": "must be a list, as in [a, b]",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "missing": "is missing",
}


def validated(
    model: type[Model],
    raw: Any,
    file: str,
    origin: Mapping[str, str] | None = None,
    whole: str = "",
    passes: Callable[[Any], bool] = lambda value: False,
) -> Model:
    """Validate a block of settings.

    Args:
        file: what errors name.
        origin: the layer of params.yaml that each dotted key came from; errors name the layer.
        whole: the layer of keys that ``origin`` does not have.
        passes: whether a value is allowed for every known key, as "auto" is in a recipe. If all
            errors are of such values, the block is returned without a check.

    Raises:
        UserError: the first of the errors, in one line: file, key, value, what is allowed.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        errors = error.errors(include_url=False)
    first = next((each for each in errors if each["type"] == "extra_forbidden" or not passes(each["input"])), None)
    if first is None:
        return model.model_construct(**raw)
    wrong_key = first["loc"][-1:] == ("[key]",)
    keys = [str(part) for part in first["loc"] if part != "[key]"]
    message = _reworded(first, model, keys)
    place = ".".join(keys) or message.split()[0]  # where several keys do not fit, the message begins with one
    prefixes = [".".join(place.split(".")[:size]) for size in range(place.count(".") + 1, 0, -1)]
    prefix = next((origin[key] for key in prefixes if origin and key in origin), whole)
    if not keys and prefix != whole:
        message += f" (in {whole})"
    key = ".".join(filter(None, [prefix, *keys]))
    if wrong_key:
        message = f"unknown key; {message}"
    silent = wrong_key or message == "is missing" or first["type"] == "value_error"
    value = "" if silent else f" = {shown(first['input'])}"
    raise UserError(f"{file}: {key or 'top level'}{value}: {message}")


def _reworded(first: Any, model: type[BaseModel], keys: list[str]) -> str:
    """Return what is allowed in place of a value, from one of pydantic's errors."""
    kind, context = first["type"], first.get("ctx", {})
    message = WORDS.get(kind, first["msg"].removeprefix("Value error, ").replace("Input should be", "must be"))
    if kind == "extra_forbidden":
        known = _fields(model, keys[:-1])
        return f"unknown key{nearest(keys[-1], known)}" + (f"; allowed: {', '.join(known)}" if known else "")
    if kind == "literal_error":
        allowed = str(context["expected"]).replace(" or ", ", ").replace("'", "").split(", ")
        return message + nearest(first["input"], allowed)
    if kind in ("too_short", "too_long"):
        wanted, limit = (
            (context["min_length"], "at least") if kind == "too_short" else (context["max_length"], "at most")
        )
        return f"must have {limit} {wanted} {'entry' if wanted == 1 else 'entries'}"
    return message


def _fields(model: Any, path: list[str]) -> list[str]:
    """Return the keys of the block at ``path`` in ``model``."""
    for part in path:
        fields = getattr(model, "model_fields", {})
        model = fields[part].annotation if part in fields else (getattr(model, "__args__", None) or (None,))[-1]
    return list(getattr(model, "model_fields", {}))
