"""A hook of mkdocs: what pages name of the repository outside of `docs` is no page of the site.

A link like `[text](../quant/kernels/cpu.py)` leads to a file where the page is read in the repository. On the site it
becomes a link into the repository where `repo_url` is set, and else its text alone. That the files are there is tested
for every document (`tests/contract/test_documents.py`).
"""

import posixpath
import re
from typing import Any

LINK = re.compile(r"\[([^\]]*)\]\((\.\./[^)\s]+)\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Replace the links of one page that lead out of `docs`."""
    folder = posixpath.dirname(page.file.src_uri)

    def replaced(match: re.Match[str]) -> str:
        text, link = match.groups()
        target = posixpath.normpath(posixpath.join("docs", folder, link))
        if target.startswith("docs/"):
            return match.group()
        return f"[{text}]({config.repo_url.rstrip('/')}/blob/main/{target})" if config.repo_url else text

    return LINK.sub(replaced, markdown)
