"""A domain: how rows of one kind (image, speech, tabular) are viewed and encoded."""

from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import create_model
from torch import nn

from imix import plugins
from imix.dataset import Dataset
from imix.schema import Strict

if TYPE_CHECKING:
    from imix.methods import base
    from imix.views.base import Views


class Domain(Strict):
    """All that an untrained encoder needs.

    ``kind`` is a module of imix/views, which says what the others are.
    """

    kind: str
    encoder: Strict
    views: Strict


def _fields(kind: str) -> dict[str, Any]:
    views = plugins.find("views", kind)
    return {"encoder": (views.Encoder.Settings, ...), "views": (views.Settings, ...)}


@cache
def domain_class(kind: str) -> type[Domain]:
    """Return `Domain` with the types of one kind."""
    return create_model(f"{kind} domain", __base__=Domain, **_fields(kind))


@cache
def training_class(method: str, kind: str) -> "type[base.Settings]":
    """Return a method's settings with the types of one kind."""
    settings = plugins.find("methods", method).Settings
    return create_model(f"{method} on {kind}", __base__=settings, **_fields(kind))


def make_views(kind: str, settings: Strict, dataset: Dataset) -> "Views":
    """Make the views of a data set."""
    return plugins.find("views", kind).Views(settings, dataset.statistics)


def make_encoder(kind: str, settings: Strict, dataset: Dataset) -> nn.Module:
    """Make an encoder for a data set, on its device.

    Its weights are drawn from torch's global generator.
    """
    views = plugins.find("views", kind)
    shape = views.seen(tuple(dataset.train.shape[1:]))
    encoder = views.Encoder.make(settings, shape, dataset.column_groups)
    return encoder.to(dataset.device)
