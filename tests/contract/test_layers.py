"""Imports inside the package go downwards only: import-linter's contracts, which pyproject.toml holds, kept on every
run of the suite.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def lint_imports(folder: Path) -> tuple[int, str]:
    """Exit code and output of `lint-imports` on the package in `folder`, by the contracts of this repository."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "--no-cache", "--config", str(ROOT / "pyproject.toml")],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    return done.returncode, done.stdout + done.stderr


def test_imports_go_downwards_only() -> None:
    code, output = lint_imports(ROOT)
    assert code == 0, output
    assert "0 broken" in output


def test_an_upward_import_is_seen(tmp_path: Path) -> None:
    """The same package with one more line, in a function, where an import is easily overlooked."""
    package = shutil.copytree(
        ROOT / "quant", tmp_path / "quant", ignore=lambda _, names: [n for n in names if n.endswith(".safetensors")]
    )
    with (package / "numerics" / "packing.py").open("a", encoding="utf-8") as file:
        file.write("\n\ndef upwards() -> object:\n    from quant import convert\n\n    return convert\n")
    code, output = lint_imports(tmp_path)
    assert code == 1, output
    assert "quant.numerics.packing -> quant.convert" in output
