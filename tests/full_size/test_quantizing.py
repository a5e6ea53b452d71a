"""Commands are timed with a peak of memory of their own, and quantizing is measured into a clean place."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.full_size import quantizing
from tests.full_size.quantizing import PEAK, bare_peak, measure_quantizing, quantize_command, run
from tests.full_size.system import ROOT

PLANTED = 100 * 2**20
STAND_IN = """
import pathlib, sys
folder, out = map(pathlib.Path, sys.argv[1:])
out.mkdir()
(out / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[::2])
print("done")
"""


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_the_command_is_the_documented_one() -> None:
    _, *arguments = quantize_command(Path("in"), Path("out"), "w8a16")
    assert arguments == ["-m", "quant", "quantize", "in", "out", "--scheme", "w8a16"]


def test_the_peak_is_the_command_s_own() -> None:
    """Seen from a process as small as the one that measures: this one holds torch, and its children would show that."""
    command = python(f"bytearray(b'x') * {PLANTED}")
    program = f"import json; from tests.full_size.quantizing import run; print(json.dumps(run({command!r}, 2)))"
    done = subprocess.run(python(program), cwd=ROOT, check=True, capture_output=True, text=True)
    seconds, peak = json.loads(done.stdout)
    assert seconds > 0
    assert PLANTED <= peak < PLANTED + 2**25


def test_a_failing_command_is_an_error() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run(python("raise SystemExit(3)"), sys.__stderr__.fileno() if sys.__stderr__ else 2)
    assert caught.value.returncode == 3


def test_a_program_tells_its_own_peak() -> None:
    planted = bare_peak(f"block = bytearray(b'x') * {PLANTED}; {PEAK}")
    assert PLANTED < planted < bare_peak(PEAK) + PLANTED + 2**23


def test_quantizing_overwrites_what_an_earlier_run_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantizing, "BARE", {"interpreter": PEAK})
    monkeypatch.setattr(quantizing, "quantize_command", lambda *paths: [*python(STAND_IN), *map(str, paths[:2])])
    folder, out = tmp_path / "in", tmp_path / "work" / "out"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(bytes(1000))
    measure_quantizing(folder, out, "w8a16")
    (out / "left.safetensors").write_bytes(bytes(7))
    result = measure_quantizing(folder, out, "w8a16")
    assert [path.name for path in out.iterdir()] == ["model.safetensors"]
    assert (result["bytes_in"], result["bytes_out"]) == (1000, 500)
    assert min(result["seconds"], result["read_seconds"]) > 0
    assert result["peak_bytes"] >= 2**20
    assert list(result["bare_bytes"]) == ["interpreter"]
