"""The machine key under which timings compare, and the versions that are recorded beside it."""

import sys
from pathlib import Path

import pytest
import torch
import transformers
from packaging.version import Version

from tests.benchmarks.gating.machine import current_key, current_software, differences, folder_name, nvidia_driver
from tests.unit.benchmarks.runs import KEY, SOFTWARE


def test_this_machine_has_a_key_with_every_field() -> None:
    key = current_key()
    assert list(key) == list(KEY)
    assert (key["threads"], key["torch"]) == (torch.get_num_threads(), torch.__version__)
    assert (key["gpu"] is None) == (not torch.cuda.is_available()) == (key["cuda"] is None)


def test_the_versions_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own word for its version has the same public part as its package's, and may have a local one."""
    software = current_software()
    assert list(software) == list(SOFTWARE)
    assert software["python"] == ".".join(map(str, sys.version_info[:3]))
    assert software["transformers"] == transformers.__version__
    assert Version(str(software["torch"])).public == Version(torch.__version__).public
    monkeypatch.setattr(sys, "path", [])
    assert [current_software()[package] for package in ("torch", "transformers", "bitsandbytes")] == [None] * 3


@pytest.mark.parametrize("field", KEY)
def test_a_difference_in_any_field_is_named_and_changes_the_folder(field: str) -> None:
    other = {**KEY, field: "else"}
    assert differences(KEY, other) == [f"{field}: 'else' there, {KEY[field]!r} here"]
    assert folder_name(other) != folder_name(KEY)


def test_a_field_that_one_side_lacks_differs_even_from_none() -> None:
    lacking = {field: value for field, value in KEY.items() if field != "gpu"}
    assert differences(KEY, lacking) == ["gpu: 'unknown' there, None here"]
    assert differences(lacking, KEY) == ["gpu: None there, 'unknown' here"]
    assert differences(KEY, dict(KEY)) == []


def test_a_folder_name_is_one_readable_part() -> None:
    name = folder_name({**KEY, "cpu": "Intel(R) Xeon(R) / 2.2 GHz", "gpu": "NVIDIA H100"})
    assert name.startswith("Intel-R-Xeon-R-2.2-GHz-NVIDIA-H100-2.13.0-")
    assert Path(name).name == name


@pytest.mark.parametrize("kind", ["NVIDIA UNIX x86_64 Kernel Module ", "NVIDIA UNIX Open Kernel Module for x86_64 "])
def test_the_driver_is_read_from_either_kernel_module(kind: str, tmp_path: Path) -> None:
    (tmp_path / "version").write_text(
        f"NVRM version: {kind} 550.54.15  Tue Mar 5 22:23:56 UTC 2024\nGCC version: 12.2\n"
    )
    assert nvidia_driver(tmp_path / "version") == "550.54.15"
    assert nvidia_driver(tmp_path / "none") is None
