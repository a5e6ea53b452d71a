"""`python -m tests.faults.table`: write docs/known-faults.md from the catalogue."""

from collections.abc import Iterator
from pathlib import Path

from tests.faults.catalogue import GROUPS
from tests.faults.fault import Fault, link
from tests.mutation.faults import FAULTS as PLANTED

DOCUMENT = Path(__file__).parents[2] / "docs" / "known-faults.md"
INTRODUCTION = """# Known faults of quantization libraries, and the tests that hold us to them

Every fault below was shipped by a library that quantizes or evaluates language models, and is told in its public
issues, pull requests and history. For each stands what went wrong, where it was seen, how this library stands to it,
and the tests that go red if it is made here. [`tests/faults/test_catalogue.py`](../tests/faults/test_catalogue.py)
fails where an entry has no test or no planted mistake, where a test that is named does not exist, and where this file
is not what `python -m tests.faults.table` writes. Tests in `tests/gpu` run on a GPU with `pytest -m gpu`,
and with `--device cpu --model reference` without one.
Under "planted" stands how many of the mistakes of [`tests/mutation/faults`](../tests/mutation/faults) turn a test of
the entry red, at least one for each; the entry names them. `python -m tests.mutation.planted NAME ...` plants them.
"""


def anchor(fault: Fault) -> str:
    """The anchor that GitHub gives to `heading`: words in lower case, hyphens for blanks, no other signs."""
    kept = [character for character in heading(fault).lower() if character.isalnum() or character in " -_"]
    return "".join(kept).replace(" ", "-")


def heading(fault: Fault) -> str:
    return f"{fault.id}: {fault.title}"


def holders(fault: Fault) -> str:
    """The cell that says how many tests hold it."""
    count = len(fault.tests)
    return f"{count} test{'s' if count > 1 else ''}"


def planted(fault: Fault) -> list[str]:
    """The names of the planted mistakes whose test is one of the entry's."""
    return [mistake.name for mistake in PLANTED if mistake.test.removeprefix("tests/") in fault.tests]


def table() -> Iterator[str]:
    yield "| | fault | held by | planted |"
    yield "|---|---|---|---|"
    for faults in GROUPS.values():
        for fault in faults:
            cells = (f"[{fault.id}](#{anchor(fault)})", fault.title, holders(fault), str(len(planted(fault))))
            yield f"| {' | '.join(cells)} |"


def entry(fault: Fault) -> Iterator[str]:
    yield f"### {heading(fault)}\n"
    yield f"{fault.what}\n"
    yield f"Seen in {', '.join(map(link, fault.seen))}.\n"
    yield f"Here: {fault.here}\n"
    for test in fault.tests:
        path, _, name = test.partition("::")
        yield f"- [`tests/{path}`](../tests/{path})`::{name}`"
    yield f"\nPlanted: {', '.join(planted(fault))}.\n"


def document() -> str:
    """The whole file."""
    lines = [INTRODUCTION, *table(), ""]
    for title, faults in GROUPS.items():
        lines.append(f"## {title}\n")
        for fault in faults:
            lines += entry(fault)
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
