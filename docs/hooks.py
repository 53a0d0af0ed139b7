"""What the site does with pages that are also read in the repository."""

import base64
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Make pages independent of files outside of docs/, which the site does not have.

    PNG pictures become a part of the page; other links become the name of their file.
    """
    markdown = re.sub(r"!\[([^\]]*)\]\(\.\./([^)]*\.png)\)", _embedded, markdown)
    return re.sub(
        r"\[([^\]]*)\]\(\.\./([^)]*)\)",
        lambda found: found[1] if "`" in found[1] else f"{found[1]} (`{found[2]}`)",
        markdown,
    )


def _embedded(found: re.Match[str]) -> str:
    content = base64.b64encode((ROOT / found[2]).read_bytes()).decode()
    return f"![{found[1]}](data:image/png;base64,{content})"
