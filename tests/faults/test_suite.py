"""How tests hide faults (E10): a parameter that is never used, or replaced by another value; a test that is skipped
where it matters. Both are read from the source of all tests.
"""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
SKIPS = {
    "benchmarks/test_linear.py": 1,
    "contract/test_install.py": 1,
    "flakes/test_hunt.py": 1,
    "mutation/test_planted.py": 2,
    "parity/test_bitsandbytes_faults.py": 9,
    "unit/checkpoint/test_disk_full.py": 1,
    "unit/checkpoint/test_memory.py": 1,
    "unit/checkpoint/test_reading.py": 1,
    "unit/evaluate/test_generation.py": 1,
    "unit/native/conftest.py": 1,
    "unit/native/test_architectures.py": 2,
    "unit/native/test_dispatch.py": 1,
    "unit/native/test_independence.py": 1,
    "unit/native/test_loading.py": 1,
    "unit/native/test_memory.py": 1,
    "unit/native/test_sanitizers.py": 3,
    "unit/report/test_files.py": 1,
    "unit/test_cli.py": 1,
    "unit/test_cli_bad_input.py": 1,
}
"""File -> places that skip a test or expect it to fail. Each states its condition; a new one is entered here."""


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
    """The arguments that `function` is parametrized with; marks: those that its file has given a name."""
    for decorator in function.decorator_list:
        mark = marks.get(decorator.id, decorator) if isinstance(decorator, ast.Name) else decorator
        if isinstance(mark, ast.Call) and ast.unparse(mark.func).endswith("mark.parametrize"):
            names = ast.literal_eval(mark.args[0])
            yield from names.split(",") if isinstance(names, str) else names


def unused(tree: ast.Module) -> Iterator[str]:
    """Tests and the arguments that they are parametrized with and do not read, or write to first."""
    marks = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
            names = [node for line in function.body for node in ast.walk(line) if isinstance(node, ast.Name)]
            read = {name.id for name in names if isinstance(name.ctx, ast.Load)}
            written = {name.id for name in names if isinstance(name.ctx, ast.Store)}
            for argument in map(str.strip, parametrized(function, marks)):
                if argument not in read or argument in written:
                    yield f"{function.name}[{argument}]"


def test_e10_every_parameter_of_a_test_reaches_it() -> None:
    assert len(sources()) > 100
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


def test_e10_tests_are_skipped_only_where_it_is_known() -> None:
    found = {file: len(list(skips(tree))) for file, tree in sources().items()}
    assert {file: count for file, count in found.items() if count} == SKIPS
