"""What importing the package costs and drags in: no optional or heavy library, no CUDA context, no change of torch's
settings.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import quant

PACKAGE = Path(quant.__file__).parent
OPTIONAL = ("transformers", "bitsandbytes", "triton")
ALLOWED = ("integrations/", "kernels/cuda/", "reference_model/train.py")
"""The only files, relative to the package, that may import them."""

PROGRAM = """
import json, os, sys, threading
import torch
def settings():
    precision = torch.get_float32_matmul_precision()
    return [str(torch.get_default_dtype()), torch.get_num_threads(), precision, torch.is_grad_enabled()]
environment, before, threads = dict(os.environ), settings(), threading.active_count()
import quant
print(json.dumps({
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
    "cuda": torch.cuda.is_initialized(),
    "settings": settings() == before,
    "environment": dict(os.environ) == environment,
    "threads": threading.active_count() == threads,
    "missing": [name for name in quant.__all__ if not hasattr(quant, name)],
    "of the command line": __import__("quant.cli") and sorted({name.partition(".")[0] for name in sys.modules}),
}))
"""


@pytest.fixture(scope="module")
def fresh() -> dict[str, object]:
    """What a new process sees after `import quant`, warnings being errors."""
    result = subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM], check=True, capture_output=True, text=True)
    report: dict[str, object] = json.loads(result.stdout)
    return report


def imported(path: Path) -> set[str]:
    """Top-level names of all modules that a file imports, wherever in the file and whether by statement or by name."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            names |= {str(argument.value) for argument in node.args if isinstance(argument, ast.Constant)}
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("library", OPTIONAL)
def test_importing_quant_imports_no_optional_library(fresh: dict[str, object], library: str) -> None:
    modules = fresh["modules"]
    assert isinstance(modules, list)
    assert "quant" in modules
    assert library not in modules


@pytest.mark.parametrize("library", ["matplotlib", "scipy", "arch"])
def test_the_command_line_imports_no_library_that_only_some_of_its_work_needs(
    fresh: dict[str, object], library: str
) -> None:
    modules = fresh["of the command line"]
    assert isinstance(modules, list)
    assert "typer" in modules
    assert library not in modules


def test_importing_quant_leaves_cuda_torch_s_settings_and_the_process_alone(fresh: dict[str, object]) -> None:
    assert fresh["cuda"] is False
    assert (fresh["settings"], fresh["environment"], fresh["threads"]) == (True, True, True)


def test_every_public_name_exists(fresh: dict[str, object]) -> None:
    assert fresh["missing"] == []


def test_only_the_integrations_the_kernels_for_gpus_and_the_training_script_import_optional_libraries() -> None:
    files = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    assert len(files) > 15
    offenders = {
        name: found
        for name, path in files.items()
        if not name.startswith(ALLOWED) and (found := imported(path).intersection(OPTIONAL))
    }
    assert offenders == {}


def test_the_search_finds_imports_in_functions_and_by_name(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text(
        "import os.path\n"
        "def f():\n"
        "    from transformers.utils import x\n"
        "    return importlib.import_module('bitsandbytes.nn')\n"
        "from . import json\n"
    )
    assert imported(source) == {"os", "transformers", "bitsandbytes"}
