"""The documents lead somewhere: links, anchors, and the files and modules they name. Their Python is run by
itself (conftest.py), and what is generated is held where it is made.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "quant/**/*.md", "examples/**/*.md") for path in ROOT.glob(pattern)
)
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """Those that GitHub gives to headings: words in lower case, hyphens for blanks, no other signs."""
    headings = re.findall(r"^#+ (.*)", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(document: Path, text: str, link: str) -> bool:
    """Whether a link of `text`, of `document`, leads to no file or no heading; other sites are not asked."""
    path, _, anchor = link.partition("#")
    if re.match(r"https?:", link):
        return False
    target = (document.parent / path).resolve() if path else document
    if not target.exists():
        return True
    return bool(anchor) and anchor not in anchors(text if target == document else target.read_text(encoding="utf-8"))


def leads_nowhere(document: Path, text: str) -> list[str]:
    """What `text`, of `document`, names and is not there."""
    links = re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text))
    found = [link for link in links if broken(document, text, link)]
    for name in re.findall(r"python -m ((?:quant|tests)(?:\.\w+)*)", text):
        module = ROOT / name.replace(".", "/")
        if not (module.with_suffix(".py").is_file() or (module / "__main__.py").is_file()):
            found.append(f"python -m {name}")
    named = re.findall(r"(?<![\w./-])(?:tests|docs|examples)(?:/[\w.-]+)+", text)
    return found + [name for name in named if not (ROOT / name.rstrip(".")).exists()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_documents_name_what_is_there(document: Path) -> None:
    assert leads_nowhere(document, document.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "[a file](gone.md)",
        "[a heading](#gone)",
        "[a heading](docs/benchmarks.md#gone)",
        "`python -m tests.gone`",
        "`python -m tests.unit`",
        "see tests/unit/gone.py",
    ],
)
def test_what_is_not_there_is_found(text: str) -> None:
    assert len(leads_nowhere(ROOT / "README.md", text)) == 1
    assert leads_nowhere(ROOT / "README.md", "[a heading](#here)\n# Here") == []
