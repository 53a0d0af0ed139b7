"""Name methods, mixes and augmentations in tables and plots."""

from collections.abc import Iterable
from functools import cache

from imix import plugins

SUPERVISED = "supervised"  # the method that trains with labels
# Baselines without a training are rows of results.csv, too: their method is BASELINE, their mix a
# key of BASELINES, and their augmentation is empty, since they are the same for both.
BASELINE = "baseline"
BASELINES = {"raw": "raw inputs", "untrained": "untrained"}
MIXES = {"none": "plain", "imix": "+ i-Mix", "icutmix": "+ i-CutMix"}
LABELLED_MIXES = {"none": "plain", "imix": "+ MixUp", "icutmix": "+ CutMix"}  # with labels, i-Mix is MixUp


@cache
def method_title(method: str) -> str:
    """Return the title that the method's module in imix/methods declares.

    Raises:
        UserError: no such module.
    """
    return BASELINE if method == BASELINE else plugins.find("methods", method).TITLE


def mix_title(method: str, mix: str) -> str:
    """Return the name of a mix in combination with a method."""
    return (LABELLED_MIXES if method == SUPERVISED else MIXES)[mix]


def cell_title(method: str, mix: str) -> str:
    """Return the title of a method with its mix, or of a baseline."""
    if method == BASELINE:
        return BASELINES[mix]
    return method_title(method) if mix == "none" else f"{method_title(method)} {mix_title(method, mix)}"


def seeds_text(count: int, most: int = 0) -> str:
    """Return the number of seeds in words; a range if there is a larger number, ``most``."""
    if most > count:
        return f"n = {count} to {most} seeds"
    return f"n = {count} seed{'s' * (count != 1)}"


def trained_with(augmentations: Iterable[str]) -> str:
    """Return a phrase that says which augmentations trainings had."""
    return " and ".join({"augmented": "with", "clean": "without"}[name] for name in augmentations) + " augmentation"
