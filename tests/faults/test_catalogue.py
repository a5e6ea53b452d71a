"""The catalogue of known faults says what is true: every entry is held by tests that exist, and every test here belongs
to an entry.
"""

import ast
import dataclasses
import functools
import re
from pathlib import Path

import pytest

from tests.faults.catalogue import FAULTS, GROUPS
from tests.faults.fault import REPOSITORIES, Fault
from tests.faults.table import DOCUMENT, document, planted

TESTS = Path(__file__).parents[1]
SIZES = {"N": 9, "P": 7, "D": 7, "M": 10, "S": 7, "I": 7, "E": 10, "F": 5}
"""How many faults each group has: 62, of which none may get lost."""
REFERENCE = re.compile(r"(?P<repository>[\w.-]+(?:/[\w.-]+)?)(?:#\d+|@[0-9a-f]{7})")


@functools.cache
def defined_in(path: str) -> frozenset[str]:
    """The tests of a file below tests/, none where there is no such file."""
    file = TESTS / path
    if not file.is_file() or not file.name.startswith("test_"):
        return frozenset()
    body = ast.parse(file.read_text(encoding="utf-8")).body
    return frozenset(node.name for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))


def missing(fault: Fault) -> list[str]:
    """The tests that an entry names and that pytest would not find."""
    return [test for test in fault.tests if test.partition("::")[2] not in defined_in(test.partition("::")[0])]


def problems(fault: Fault) -> list[str]:
    """What is wrong with an entry."""
    found = [f"{test} does not exist" for test in missing(fault)]
    if not fault.tests:
        found.append("has no tests")
    if not fault.here:
        found.append("does not say what its tests hold")
    if fault.tests and all(test.startswith("gpu/") for test in fault.tests):
        found.append("is held on machines with a GPU only")
    if len(set(fault.tests)) < len(fault.tests):
        found.append("names a test twice")
    if not fault.seen or not fault.title or not fault.what:
        found.append("does not say what was seen where")
    for reference in fault.seen:
        match = REFERENCE.fullmatch(reference)
        if match is None or ("/" not in match["repository"] and match["repository"] not in REPOSITORIES):
            found.append(f"{reference} is no reference")
    return found


def test_all_faults_are_there_in_order() -> None:
    expected = [f"{letter}{number}" for letter, size in SIZES.items() for number in range(1, size + 1)]
    assert [fault.id for fault in FAULTS] == expected
    assert len(expected) == 62
    assert [{fault.id[0] for fault in faults} for faults in GROUPS.values()] == [{letter} for letter in SIZES]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_an_entry_is_held_by_tests_that_exist(fault: Fault) -> None:
    assert problems(fault) == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_a_planted_mistake_turns_a_test_of_the_entry_red(fault: Fault) -> None:
    """Which `python -m tests.mutation.planted` shows."""
    assert planted(fault) != []


GOOD = Fault(
    id="N1",
    title="title",
    what="what",
    seen=("bnb#1", "owner/name@0123abc"),
    here="here",
    tests=("unit/test_int8.py::test_chunks_do_not_matter",),
)
ON_A_GPU = "gpu/test_layers.py::test_outputs_are_the_exact_ones_but_for_rounding"


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "no tests": ({"tests": ()}, "has no tests"),
    "no words": ({"here": ""}, "does not say what its tests hold"),
    "no such test": ({"tests": ("unit/test_int8.py::test_gone",)}, "unit/test_int8.py::test_gone does not exist"),
    "no such file": ({"tests": ("unit/test_gone.py::test_a",)}, "unit/test_gone.py::test_a does not exist"),
    "a file": ({"tests": ("unit/test_int8.py",)}, "unit/test_int8.py does not exist"),
    "no test": ({"tests": ("unit/test_int8.py::bits",)}, "unit/test_int8.py::bits does not exist"),
    "no test file": ({"tests": ("flushing.py::test_a",)}, "flushing.py::test_a does not exist"),
    "GPU only": ({"tests": (ON_A_GPU,)}, "is held on machines with a GPU only"),
    "twice": ({"tests": GOOD.tests * 2}, "names a test twice"),
    "seen nowhere": ({"seen": ()}, "does not say what was seen where"),
    "nobody": ({"seen": ("nobody#1",)}, "nobody#1 is no reference"),
    "an address": ({"seen": ("https://example.org",)}, "https://example.org is no reference"),
}


@pytest.mark.parametrize(("changes", "problem"), WRONG.values(), ids=WRONG)
def test_a_wrong_entry_is_seen(changes: dict[str, object], problem: str) -> None:
    assert problems(GOOD) == []
    assert problems(dataclasses.replace(GOOD, **changes)) == [problem]  # type: ignore[arg-type]


def test_every_test_of_this_folder_names_a_fault_that_names_it() -> None:
    pointers = {fault.id.lower(): set(fault.tests) for fault in FAULTS}
    files = [path.name for path in Path(__file__).parent.glob("test_*.py") if path != Path(__file__)]
    assert len(files) > 5
    for file in files:
        for name in defined_in(f"faults/{file}"):
            prefix = re.match(r"test_([a-z]\d+)_", name)
            assert prefix is not None, f"{file}::{name} does not begin with the id of a fault"
            assert f"faults/{file}::{name}" in pointers.get(prefix[1], ()), f"{prefix[1]} does not name {file}::{name}"


def test_the_document_is_what_the_catalogue_says() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "python -m tests.faults.table writes it anew"
