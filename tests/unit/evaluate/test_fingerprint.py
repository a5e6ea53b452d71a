"""Fingerprints: they hold what a result depends on, and results that differ in any of it refuse to be compared, by
name.
"""

import dataclasses
import importlib.metadata
import json
import os
import platform
import re
from pathlib import Path

import pytest
import torch

from quant.errors import QuantError
from quant.evaluate import fingerprint
from quant.evaluate.fingerprint import Fingerprint, require_comparable, take_fingerprint
from quant.evaluate.windows import TokenWindows

OTHER: dict[str, object] = {
    "tokens_sha256": "0" * 64,
    "scored_tokens": 8,
    "window": 5,
    "stride": 1,
    "bos_id": None,
    "dtype": "bfloat16",
    "batch_size": 9,
    "device": "NVIDIA H200",
    "cpu": "another CPU",
    "threads": 999,
    "versions": {"torch": "1.0"},
}
FIELDS = [field.name for field in dataclasses.fields(Fingerprint)]


def taken(window: int = 6, stride: int | None = None, bos_id: int | None = 0) -> Fingerprint:
    return take_fingerprint(TokenWindows(torch.arange(10), window, stride, bos_id), torch.float32, 2, "cpu")


def test_it_holds_what_was_measured() -> None:
    fingerprint = taken()
    assert fingerprint.tokens_sha256 == TokenWindows(torch.arange(10), 3).sha256
    assert (fingerprint.scored_tokens, fingerprint.window, fingerprint.stride, fingerprint.bos_id) == (9, 6, 5, 0)
    assert (fingerprint.dtype, fingerprint.batch_size, fingerprint.device) == ("float32", 2, "cpu")
    assert fingerprint.threads == torch.get_num_threads()
    assert fingerprint.versions["torch"] == torch.__version__
    assert {"python", "transformers"} <= set(fingerprint.versions)
    assert re.search(r"\d+ cores", fingerprint.cpu)


def test_the_default_stride_is_recorded_as_the_number_it_stands_for() -> None:
    assert taken(6, None, 0) == taken(6, 5, 0)
    assert taken(6, None, None) == taken(6, 6, None)
    assert taken(6, None, 0) != taken(6, 4, 0)


def test_it_is_plain_data() -> None:
    record = dataclasses.asdict(taken())
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_equal_fingerprints_may_be_compared() -> None:
    require_comparable(taken(), taken())


def test_every_field_has_a_counterexample() -> None:
    assert list(OTHER) == FIELDS


@pytest.mark.parametrize("name", FIELDS)
def test_the_differing_field_is_named_with_both_values(name: str) -> None:
    here = taken()
    other = dataclasses.replace(here, **{name: OTHER[name]})  # type: ignore[arg-type]
    with pytest.raises(QuantError) as caught:
        require_comparable(here, other)
    message = str(caught.value)
    assert f"{name}: {getattr(here, name)} and {OTHER[name]}" in message
    assert [field for field in FIELDS if re.search(rf"\b{field}: ", message)] == [name]


def test_all_differing_fields_are_named() -> None:
    here = taken()
    with pytest.raises(QuantError) as caught:
        require_comparable(here, Fingerprint(**OTHER))  # type: ignore[arg-type]
    assert all(f"{name}: " in str(caught.value) for name in FIELDS)


def test_builds_of_torch_for_other_devices_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The installed metadata may lack the suffix that says CPU or CUDA."""
    here = taken()
    monkeypatch.setattr(torch, "__version__", "2.13.0+cu130")
    assert taken().versions["torch"] == "2.13.0+cu130"
    with pytest.raises(QuantError, match=r"versions: .*2\.13\.0\+cu130"):
        require_comparable(here, taken())


def test_a_package_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        if package == "bitsandbytes":
            raise importlib.metadata.PackageNotFoundError(package)
        return "1.2.3"

    assert "bitsandbytes" in taken().versions
    monkeypatch.setattr(importlib.metadata, "version", version)
    versions = taken().versions
    assert "bitsandbytes" not in versions
    assert versions["transformers"] == "1.2.3"


def test_versions_are_those_that_are_installed_and_nothing_for_what_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "PACKAGES", ("absent-package", "torch", "pytest"))
    versions = taken().versions
    assert versions.keys() == {"python", "torch", "pytest"}
    assert versions["pytest"] == importlib.metadata.version("pytest")


def test_the_cpu_is_named_by_its_model_and_where_there_is_none_by_its_architecture(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    listed = tmp_path / "cpuinfo"
    listed.write_bytes(
        b"processor\t: 0\nmodel name\t: Some\xff  CPU\nmodel\t: 1\nflags\t\t: fpu amx_bf16 avx512_vnni sse\n"
        b"processor\t: 1\nmodel name\t: Other CPU\nflags\t\t: fpu amx_int8\n"
    )
    paths = {"/proc/cpuinfo": listed}
    monkeypatch.setattr(fingerprint, "Path", paths.__getitem__)
    rest = f", {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"
    assert fingerprint.cpu_name() == f"Some\ufffd CPU{rest} avx512_vnni amx_bf16"
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    listed.write_text("processor\t: 0\n", encoding="utf-8")
    assert fingerprint.cpu_name() == f"riscv64{rest}"
    monkeypatch.setattr(platform, "processor", lambda: "a processor")
    listed.unlink()
    assert fingerprint.cpu_name() == f"a processor{rest}"
