"""docs/parameters.md: what each parameter allows, its default and meaning, from the schema."""

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from imix import plugins
from imix.evaluation import Probe
from imix.methods import base
from imix.settings import study, text

HEAD = """\
# Parameters

Every key of [`params.yaml`](../params.yaml): what it may be, its default there, and what it means. `imix readme` writes
this page from the schema that checks the file. `imix explain STAGE` prints what a cell got, and from which layer.

Layers merge key by key, the later wins: `defaults`, then `recipe.<dataset>`; within each, the blocks `augmented` and
`clean`, a method's name and a mix's name, nested in any order, for those cells only. `like` starts from another recipe.
"""
# of keys that neither the schema nor params.yaml explains
MEANINGS = {
    "augmentation": "with views, or with clean rows for both views",
    "batch_size": "items of a step",
    "canvas": "height and width that a picture is scaled to cover; its centre is taken",
    "checksum": "`official`, or that of the archive in a mirror of yours",
    "datasets": "names of blocks under `data` and `recipe`",
    "decimal": "the decimal mark of numbers",
    "depth": "layers of the residual network",
    "drop": "columns to leave out",
    "embedding": "size of the projection that the loss sees",
    "encoder": "the network; see its section",
    "epochs": "passes over the training rows",
    "file": "its name, below `own/<name>/`",
    "files": "in place of `file`: one for each split",
    "flip_probability": "of a mirrored picture",
    "grey_probability": "of a picture without colour",
    "jitter": "strength of changes of brightness, contrast, saturation and hue",
    "jitter_probability": "of these changes",
    "masking": "probability that a number is masked, in the first and in the second view",
    "methods": "names of modules in imix/methods",
    "missing": "what becomes of gaps",
    "mix": "what is mixed into the first view",
    "mixes": "plain, i-Mix, i-CutMix",
    "pairs": "`pretrained_on` and `probed_on` of each",
    "perplexity": "of t-SNE",
    "predictor": "BYOL's head on top of the projection",
    "probability": "of each transform",
    "projection": "the head between encoder and loss",
    "question": "what the ablation asks",
    "queue": "past keys that MoCo contrasts with",
    "run": "names of blocks under `ablation`",
    "seed": "of the choice",
    "seeds": "one training of each cell for each",
    "speed": "playing speed and pitch change by at most this share",
    "stem_stride": "stride of the first convolution",
    "stretch": "length changes by at most this share, at the same pitch",
    "supervised": "mixes of a baseline that is trained with labels; [] for none",
    "temperature": "divides the cosines",
    "test": "rows; null: all",
    "validation": "rows, or their share of the training rows; null: the data set's own",
    "views": "the random transforms; see their section",
    "voices": "of each split",
    "width": "channels of the first block, or a factor of the table network's widths",
}


def markdown(file: Path) -> str:
    """Return the page.

    Args:
        file: params.yaml; its defaults, and its comments where the schema has none.

    Raises:
        UserError: a file that cannot be read.
    """
    defaults, parts = text.read(file)["defaults"], [HEAD]
    notes = {**MEANINGS, **_comments(file.read_text(encoding="utf-8"))}
    for name in ("Grid", "Ablations", "Ablation", "Transfer", "Projection"):
        key = {"Grid": "grid", "Ablations": "ablations", "Ablation": "ablation.<name>"}.get(name, name.lower())
        parts.append(_section(f"`{key}`", getattr(study, name), {}))
    parts.append(_section("`defaults` and `recipe`: any training", base.Settings, defaults, notes))
    for method in plugins.names("methods"):
        module = plugins.find("methods", method)
        own = set(module.Settings.model_fields) - set(base.Settings.model_fields)
        values = {**defaults, **defaults.get(method, {})}
        parts += (
            [_section(f"`defaults` and `recipe`: {module.TITLE}", module.Settings, values, notes, own)] if own else []
        )
    parts.append(_section("`probe`: the evaluation", Probe, defaults.get("probe", {}), notes))
    for kind in plugins.names("views"):
        module = plugins.find("views", kind)
        parts.append(_section(f"`views` of {kind} rows", module.Settings, {}))
        parts.append(_section(f"`encoder` of {kind} rows", module.Encoder.Settings, {}))
    for dataset in plugins.names("datasets"):
        module = plugins.find("datasets", dataset)
        parts.append(_section(f"`data`: `source` with name {dataset}", module.Source, {}))
        parts.append(_section(f"`data`: `rows` with name {dataset}", module.Rows, {}))
    return "\n".join(part for part in parts if part)


def _section(
    title: str,
    model: type[BaseModel],
    defaults: Mapping[str, Any],
    notes: Mapping[str, str] = MEANINGS,
    only: set[str] | None = None,
) -> str:
    """Return one table; ``notes`` are the meanings of keys that have no comment in the schema."""
    meanings = {**notes, **dict(_notes(model))}
    rows = [
        [f"`{name}`", _allowed(field), _default(name, field, defaults), meanings.get(name, "")]
        for name, field in model.model_fields.items()
        if name != "name" and (only is None or name in only)
    ]
    if not rows:
        return ""
    about = " ".join((inspect.getdoc(model) or "").split("\n\n")[0].split())
    lines = [["key", "allowed", "default", "meaning"], ["---"] * 4, *rows]
    table = "".join(f"| {' | '.join(cell.replace('|', 'or') for cell in line)} |\n" for line in lines)
    return f"## {title}\n\n{about}\n\n{table}"


def _comments(content: str) -> dict[str, str]:
    """Return the comments behind the keys of ``defaults``, without the mark of unpublished ones."""
    block = content[content.index("\ndefaults:") : content.index("\nrecipe:")]
    found = re.findall(r"^ +(\w+): ?[^#\n]*# (.*)$", block, re.MULTILINE)
    comments = {key: comment.removeprefix("ours").lstrip(":; ") for key, comment in found}
    return {key: comment for key, comment in comments.items() if comment}


def _notes(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Yield the fields that have a comment, on their line or above it, with the comment."""
    for parent in reversed(model.__mro__):
        if not issubclass(parent, BaseModel) or parent.__module__.startswith("pydantic"):
            continue
        above = ""
        for line in inspect.getsource(parent).splitlines():
            field = re.match(r"    (\w+): [^#]*(?:# ?(.*))?$", line)
            if field and (field[2] or above):
                yield field[1], field[2] or above
            above = line.strip()[2:] if line.startswith("    # ") else ""


def _allowed(field: FieldInfo) -> str:
    for says in field.metadata:
        if hasattr(says, "allowed"):
            return _short(says.allowed)
    return _kind(field.annotation)


def _short(allowed: str) -> str:
    return "a name" if allowed.startswith("a name:") else allowed


def _kind(annotation: Any) -> str:
    """Return what an annotation allows, in words."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inside)
    for says in inside[1:] if hasattr(annotation, "__metadata__") else ():
        if hasattr(says, "allowed"):
            return _short(says.allowed)
    if hasattr(annotation, "__metadata__"):
        return _kind(inside[0])
    if origin is list:
        return f"a list; each {_kind(inside[0])}"
    if origin is dict:
        return "a block of names"
    if inside:  # a union
        return " or ".join("null" if each is type(None) else _kind(each) for each in inside)
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return names.get(annotation, "a block")


def _default(name: str, field: FieldInfo, defaults: Mapping[str, Any]) -> str:
    if name in defaults:
        return f"`{defaults[name]}`".replace("True", "true").replace("False", "false")
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)
    return "`null`" if value is None else f"`{value}`".replace("True", "true").replace("False", "false")
