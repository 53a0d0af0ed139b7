"""i-Mix: contrastive representation learning with mixed virtual labels, in any domain (arXiv 2010.08887)."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["beta", "cutmix", "inputmix", "mixed_loss", "mixup", "random_partners"]


def __getattr__(name: str) -> Any:
    """Import the operators, and torch with them, only when they are asked for: some stages need no torch."""
    if name in __all__:
        return getattr(import_module("imix.mixing"), name)
    raise AttributeError(f"module 'imix' has no attribute {name!r}")
