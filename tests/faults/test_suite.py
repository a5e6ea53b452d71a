"""How tests hide faults (E10): a parameter that is never used, or replaced by another value; a test that is skipped
where it matters. Both are read from the source of all tests. So a mark stands on its test, or is given a name in the
same file.
"""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
SKIPS = {
    "benchmarks/test_linear.py": 1,
    "contract/test_install.py": 1,
    "contract/test_linters.py": 1,
    "flakes/test_hunt.py": 1,
    "mutation/test_planted.py": 2,
    "parity/test_bitsandbytes_faults.py": 9,
    "unit/checkpoint/test_disk_full.py": 1,
    "unit/checkpoint/test_memory.py": 1,
    "unit/checkpoint/test_reading.py": 1,
    "unit/cuda/conftest.py": 1,
    "unit/cuda/test_machine_code.py": 1,
    "unit/cuda/test_rounded_weights.py": 1,
    "unit/evaluate/test_peak_memory.py": 1,
    "unit/evaluate/test_thresholds.py": 1,
    "unit/native/conftest.py": 1,
    "unit/native/test_architectures.py": 2,
    "unit/native/test_dispatch.py": 1,
    "unit/native/test_independence.py": 1,
    "unit/native/test_loading.py": 1,
    "unit/native/test_memory.py": 1,
    "unit/native/test_sanitizers.py": 3,
    "unit/report/test_browser.py": 1,
    "unit/report/test_files.py": 1,
    "unit/test_cli_bad_input.py": 1,
    "unit/test_cli_files.py": 1,
    "unit/test_placement.py": 1,
}
"""File -> places that skip a test or expect it to fail. Each states its condition; a new one is entered here."""
KNOWN = ("given",)
"""Decorators of other libraries."""
PARAMETRIZING = {"per_kind": "alike"}
"""Decorators of `tests.strategies` -> the argument that they parametrize with."""


@functools.cache
def sources() -> dict[str, ast.Module]:
    """Every file of the suite, parsed, by its path below tests/."""
    return {
        path.relative_to(TESTS).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(TESTS.rglob("*.py"))
    }


def skips(tree: ast.Module) -> Iterator[ast.Attribute]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ("skip", "skipif", "xfail", "importorskip"):
            yield node


def parametrized(function: ast.FunctionDef, marks: dict[str, ast.expr]) -> Iterator[str]:
    """The arguments that `function` is parametrized with, by marks or by the battery; marks: those that its file has
    given a name.
    """
    for decorator in function.decorator_list:
        mark = marks[decorator.id] if isinstance(decorator, ast.Name) else decorator
        if isinstance(mark, ast.Call) and ast.unparse(mark.func).endswith("mark.parametrize"):
            names = ast.literal_eval(mark.args[0])
            yield from map(str.strip, names.split(",") if isinstance(names, str) else names)
        elif isinstance(mark, ast.Call) and ast.unparse(mark.func) in PARAMETRIZING:
            yield PARAMETRIZING[ast.unparse(mark.func)]
    if "scheme" in [argument.arg for argument in function.args.args]:
        yield "scheme"


def functions_of(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node


def marks_of(tree: ast.Module) -> dict[str, ast.expr]:
    """What the file has given a name."""
    return {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def unknown_marks(tree: ast.Module) -> list[str]:
    """What stands on tests and is neither pytest's, nor named in the file, nor known: it may parametrize them."""
    decorators = [mark for function in functions_of(tree) for mark in function.decorator_list]
    names = [ast.unparse(mark.func if isinstance(mark, ast.Call) else mark) for mark in decorators]
    known = {*marks_of(tree), *KNOWN, *PARAMETRIZING}
    return [name for name in names if name not in known and not name.startswith("pytest.mark.")]


def unused(tree: ast.Module) -> Iterator[str]:
    """Tests and the arguments that they are parametrized with and do not read, or write to first."""
    marks = marks_of(tree)
    for function in functions_of(tree):
        names = [node for line in function.body for node in ast.walk(line) if isinstance(node, ast.Name)]
        read = {name.id for name in names if isinstance(name.ctx, ast.Load)}
        written = {name.id for name in names if isinstance(name.ctx, ast.Store)}
        for argument in dict.fromkeys(parametrized(function, marks)):
            if argument not in read or argument in written:
                yield f"{function.name}[{argument}]"


def test_e10_every_parameter_of_a_test_reaches_it() -> None:
    assert len(sources()) > 100
    assert {file: found for file, tree in sources().items() if (found := unknown_marks(tree))} == {}
    assert {file: found for file, tree in sources().items() if (found := list(unused(tree)))} == {}


def test_e10_a_parameter_that_does_not_is_seen() -> None:
    tree = ast.parse(
        "each = pytest.mark.parametrize('dtype', [1, 2])\n"
        "@each\n"
        "@pytest.mark.parametrize('size, other', [(1, 2)])\n"
        "def test_a(dtype, size, other):\n"
        "    dtype = 3\n"
        "    assert size + dtype\n"
    )
    assert list(unused(tree)) == ["test_a[dtype]", "test_a[other]"]
    assert list(unused(ast.parse("@per_kind(ALL)\ndef test_a(alike, data): assert data"))) == ["test_a[alike]"]
    assert list(unused(ast.parse("def test_b(scheme): assert layer()\ndef test_c(scheme): assert layer(scheme)"))) == [
        "test_b[scheme]"
    ]


def test_e10_a_mark_of_another_file_is_seen() -> None:
    tree = ast.parse(
        "here = pytest.mark.slow\n"
        "@each\n"
        "@each_of(3)\n"
        "@other.each\n"
        "@here\n"
        "@given(floats())\n"
        "@pytest.mark.parametrize('dtype', [1, 2])\n"
        "def test_a(dtype, value): assert dtype + value\n"
    )
    assert unknown_marks(tree) == ["each", "each_of", "other.each"]


def test_e10_tests_are_skipped_only_where_it_is_known() -> None:
    found = {file: len(list(skips(tree))) for file, tree in sources().items()}
    assert {file: count for file, count in found.items() if count} == SKIPS
