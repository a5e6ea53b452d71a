"""Every planted fault still fits the sources and names a test that exists; and the way to try them tells what turns red
from what does not. Whether the real ones do is found out by `python -m tests.mutation.planted`, every night.
"""

import ast
import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation.fault import Fault
from tests.mutation.faults import FAULTS
from tests.mutation.planted import ROOT, copy_repository, main

PARTS = ("numerics", "kernels", "native", "evaluate", "checkpoint", "integrations", "report")
"""Folders of the package that each have several."""
TOY = {
    "pytest.ini": "[pytest]\n",
    "quant/__init__.py": "",
    "quant/adding.py": "def add(a: int, b: int) -> int:\n    return a + b\n",
    "toy/test_adding.py": "from quant.adding import add\n\n\ndef test_adds() -> None:\n    assert add(2, 3) == 5\n",
}
PROGRAM = """
import sys
from tests.mutation import worker
from tests.mutation.fault import Fault
test = "toy/test_adding.py::test_adds"
faults = (
    Fault("wrong", "adding.py", "a + b", "a - b", test),
    Fault("harmless", "adding.py", "a + b", "b + a", test),
    Fault("hanging", "adding.py", "return", "__import__('signal').raise_signal(14)  # SIGALRM; return", test),
    Fault("unreadable", "adding.py", "def add", "raise RuntimeError\\ndef add", test),
    Fault("untested", "adding.py", "def add", "def  add", "toy/test_adding.py::test_absent"),
)
sys.exit(worker.main(sys.argv[1:], faults, libraries=()))
"""


@functools.cache
def functions_in(file: str) -> frozenset[str]:
    """Names of the functions at the top of a test file."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_fits_the_sources_and_its_test_exists(fault: Fault) -> None:
    source = (ROOT / "quant" / fault.file).read_text(encoding="utf-8")
    compile(fault.applied(source), fault.file, "exec")
    file, _, name = fault.test.partition("::")
    assert name in functions_in(file), fault.test


def test_there_are_as_many_as_documented_of_different_names_in_every_part() -> None:
    document = (ROOT / "docs/testing-the-suite.md").read_text(encoding="utf-8")
    assert f"\n{len(FAULTS)} realistic mistakes " in document
    assert len(FAULTS) >= 60
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert len({(fault.file, fault.old, fault.new) for fault in FAULTS}) == len(FAULTS)
    for part in PARTS:
        assert sum(fault.file.startswith(f"{part}/") for fault in FAULTS) >= 5, part


@pytest.mark.parametrize(
    ("old", "new"), [("absent", "a"), ("a", "b"), ("return", "return")], ids=["absent", "twice", "no change"]
)
def test_a_fault_that_does_not_fit_is_an_error(old: str, new: str) -> None:
    with pytest.raises(ValueError, match=f"name: '{old}' occurs"):
        Fault("name", "adding.py", old, new, "").applied(TOY["quant/adding.py"])


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A package of one function and its test."""
    for name, content in TOY.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    return tmp_path


def worked(toy: Path, *names: str) -> tuple[int, str]:
    """Exit code and output of a worker that tries the toy's faults with these names. The one that hangs is one whose
    time is up at once.
    """
    paths = os.pathsep.join((str(toy), str(ROOT)))
    # Importing the plugins that are installed would take most of the time.
    options = {"PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment = {**os.environ, "PYTHONPATH": paths, **options}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *names], cwd=toy, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="faults are tried in forks, and this system has none")
def test_what_fails_or_hangs_is_red_and_what_does_not_is_told_with_its_change(toy: Path) -> None:
    code, output = worked(toy, "wrong", "harmless", "hanging", "unreadable")
    assert code == 1, output
    lines = [" ".join(line.split()) for line in output.splitlines()]
    for expected in (
        "red wrong: toy/test_adding.py:5: assert -1 == 5",
        "survived harmless: quant/adding.py: 'a + b' -> 'b + a'",
        "red hanging: no end within 300 s",
        "broken unreadable: quant/adding.py: 'def add' -> 'raise RuntimeError\\ndef add'",
    ):
        assert expected in lines, output
    assert (toy / "quant/adding.py").read_text(encoding="utf-8") == TOY["quant/adding.py"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="faults are tried in forks, and this system has none")
@pytest.mark.parametrize(("name", "code"), [("wrong", 0), ("harmless", 1), ("untested", 1)])
def test_the_exit_code_says_whether_all_were_red(toy: Path, name: str, code: int) -> None:
    """A test that is not there is no proof either: it is not green without the fault."""
    assert worked(toy, name)[0] == code


def test_the_copy_holds_what_tests_need_and_shares_no_source(tmp_path: Path) -> None:
    tree = copy_repository(ROOT, tmp_path / "copy")
    copied = {path.relative_to(tree) for path in tree.rglob("*.py")}
    assert {Path("conftest.py"), *(Path("quant", fault.file) for fault in FAULTS)} <= copied
    assert not any((tree / path).is_symlink() for path in copied)
    assert (tree / "quant/reference_model/model.safetensors").is_symlink()


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["no-such-fault"])
    assert ended.value.code == 2
    assert "no fault is called no-such-fault" in capsys.readouterr().err
