"""An extension of the site's API pages: a section ``Example:`` of a docstring is one of doctests."""

from typing import Any

import griffe


class Examples(griffe.Extension):
    """Name the section as the reader of docstrings expects it."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section of one object's docstring."""
        if obj.docstring:
            obj.docstring.value = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
