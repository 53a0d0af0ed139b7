"""i-Mix: contrastive learning with mixed virtual labels, in any domain (arXiv 2010.08887)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imix import mixing, objectives
    from imix.encoding import load_encoder
    from imix.mixing import beta, cutmix, dirichlet, inputmix, mixed_loss, mixup, random_partners

__version__ = "0.2.0"
MODULES = ("mixing", "objectives")
__all__ = [
    "beta",
    "cutmix",
    "dirichlet",
    "inputmix",
    "load_encoder",
    "mixed_loss",
    "mixing",
    "mixup",
    "objectives",
    "random_partners",
]


def __getattr__(name: str) -> Any:
    """Import the operators, and torch with them, on first use: some stages run without torch.

    Raises:
        AttributeError: an unknown name.
        ImportError: packages of imix[study] that are not installed.
    """
    if name in MODULES:
        return import_module(f"imix.{name}")
    if name == "load_encoder":
        try:
            return import_module("imix.encoding").load_encoder
        except ModuleNotFoundError as error:
            raise ImportError(f"imix.load_encoder needs {error.name}: pip install 'imix[study]'") from None
    if name in __all__:
        return getattr(import_module("imix.mixing"), name)
    raise AttributeError(f"module 'imix' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the lazy names too, for completion."""
    return sorted([*globals(), *__all__])
