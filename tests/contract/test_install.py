"""What `pip install` makes of the sources: the extension where there is a compiler, the rest of the package where there
is none, and everything that compiling needs in the source distribution.
"""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTALL = ("-m", "pip", "install", "--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check")
SDIST = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
IMPORT = "import sys; sys.path.insert(0, sys.argv[1]); import _kernels; print(_kernels.__file__, *_kernels.supported())"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of what the build reads, without what earlier builds left."""
    copy = tmp_path / "source"
    shutil.copytree(ROOT / "quant", copy / "quant", ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.pyd"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    return copy


def python(*arguments: str, cwd: Path, **environment: str) -> str:
    """What Python prints in a process of its own."""
    command = [sys.executable, *arguments]
    result = subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def install(source: Path, compiler: str) -> Path:
    """quant.native as installed from `source`, with a shell command as the compiler that is called at least once."""
    target, called, script = source.parent / "target", source.parent / "called", source.parent / "compiler"
    script.write_text(f"#!/bin/sh\ntouch {called}\n{compiler}\n")
    script.chmod(0o755)
    python(*INSTALL, "--target", str(target), str(source), cwd=source, CC=str(script))
    assert called.exists()
    return target / "quant" / "native"


def extensions(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith("_kernels")]


def test_without_a_compiler_the_install_succeeds_and_leaves_the_extension_out(source: Path) -> None:
    native = install(source, "exit 1")
    assert extensions(native) == []
    assert (native / "variants.py").exists()
    assert (native.parent / "report" / "templates" / "report.html.j2").exists()


def test_with_a_compiler_the_extension_is_one_for_every_python(source: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("there is no cc on PATH")
    native = install(source, 'exec cc "$@" -O0')  # optimizing takes ten seconds
    assert extensions(native) == ["_kernels.abi3.so"]
    file, *variants = python("-c", IMPORT, str(native), cwd=native).split()
    assert file == str(native / "_kernels.abi3.so")
    assert "portable" in variants


def test_the_source_distribution_has_all_c_files_and_templates(source: Path, tmp_path: Path) -> None:
    python("-c", SDIST, str(tmp_path), cwd=source)
    (archive,) = tmp_path.glob("quant-*.tar.gz")
    with tarfile.open(archive) as files:
        names = files.getnames()
    packed = {Path(name).name for name in names if "/quant/native/csrc/" in name}
    assert any(name.endswith("/quant/report/templates/report.html.j2") for name in names)
    expected = {path.name for path in (ROOT / "quant" / "native" / "csrc").iterdir()}
    assert {"module.c", "kernels.h", "few_rows.inc"} <= expected
    assert packed == expected


def test_every_c_file_is_declared_so_that_a_change_of_it_compiles_anew() -> None:
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for path in (ROOT / "quant" / "native" / "csrc").iterdir():
        assert f'"{path.relative_to(ROOT).as_posix()}"' in declared
