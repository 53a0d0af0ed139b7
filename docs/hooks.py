"""What the site does with pages that are also read in the repository."""

import re
from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Show links to files outside of docs/ as their names: the site does not have them."""
    return re.sub(
        r"\[([^\]]*)\]\(\.\./([^)]*)\)",
        lambda found: found[1] if "`" in found[1] else f"{found[1]} (`{found[2]}`)",
        markdown,
    )
