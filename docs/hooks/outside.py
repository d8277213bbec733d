"""Links of the pages that leave `docs/`: in the site they become the path that they point to.

On the pages as files they lead to the sources and benchmarks beside `docs/`, which the site does
not contain.
"""

from __future__ import annotations

import re
from typing import Any

# A link to a path above the folder of the pages, its text without a nested link.
_OUTSIDE = re.compile(r"\[([^\]\[]+)\]\(\.\./([^)\s]+)\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace links to files outside `docs/`; called by MkDocs for each page.

    Args:
        markdown: text of a page.
    """
    return _OUTSIDE.sub(_plain, markdown)


def _plain(link: re.Match[str]) -> str:
    """The link's text, and the path in the sources where the text does not say it."""
    text, path = " ".join(link[1].split()), link[2].partition("#")[0]
    return text if text.strip("`").rstrip("/") in path else f"{text} (`{path}`)"
