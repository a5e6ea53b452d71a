"""The file of thresholds: what is written is read, others are left as they are, and damage is told by name."""

import io
import json
import os
import stat
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from quant.errors import QuantError
from quant.evaluate.thresholds import Threshold, ThresholdFile, WindowMeans


def make(kl: float = 0.25) -> Threshold:
    column = torch.tensor([1.0, 1 / 3, 2e-7], dtype=torch.float64)
    windows = WindowMeans(torch.tensor([8.0, 8.0, 5.0], dtype=torch.float64), column, column + 1, 2 * column)
    provenance = {"window": 8, "command": "pytest"}
    layers, floats = {"W8A16()": ["a", "b"]}, {"n": "0f"}
    return Threshold(1.01, 0.002, kl, 0.03, 5e-6, 6e-8, 33.5, 0.99, layers, floats, windows.rounded(), provenance)


def test_windows_are_rounded_to_nine_digits() -> None:
    column = torch.tensor([1 / 3, 200 / 3, 2e-7 / 3], dtype=torch.float64)
    rounded = WindowMeans(column, column, column, column).rounded()
    for name in WindowMeans.__annotations__:
        assert getattr(rounded, name).tolist() == [0.333333333, 66.6666667, 6.66666667e-08]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = ThresholdFile(tmp_path / "thresholds.json")
    file.write("tiny", "nf4", make())
    found = file.read("tiny", "nf4")
    for field in fields(Threshold):
        if field.name != "windows":
            assert getattr(found, field.name) == getattr(make(), field.name)
    for field in fields(WindowMeans):
        assert torch.equal(getattr(found.windows, field.name), getattr(make().windows, field.name))


def test_a_file_has_what_was_written_damaged_or_not(tmp_path: Path) -> None:
    file = ThresholdFile(tmp_path / "thresholds.json")
    assert not file.has("tiny", "nf4")
    file.write("tiny", "nf4", make())
    content = json.loads(file.path.read_text(encoding="utf-8"))
    content["thresholds"]["tiny"]["int4"] = {}
    file.path.write_text(json.dumps(content), encoding="utf-8")
    assert [file.has("tiny", scheme) for scheme in ("nf4", "int4", "fp4")] == [True, True, False]
    assert not file.has("other", "nf4")


def test_writing_one_leaves_the_others(tmp_path: Path) -> None:
    file = ThresholdFile(tmp_path / "thresholds.json")
    for model, scheme, kl in (("a", "nf4", 1.0), ("a", "fp4", 2.0), ("b", "nf4", 3.0), ("a", "nf4", 4.0)):
        file.write(model, scheme, make(kl))
    kls = {(model, scheme): file.read(model, scheme).kl for model, scheme in (("a", "nf4"), ("a", "fp4"), ("b", "nf4"))}
    assert kls == {("a", "nf4"): 4.0, ("a", "fp4"): 2.0, ("b", "nf4"): 3.0}
    assert [path.name for path in tmp_path.iterdir()] == ["thresholds.json"]


def test_the_file_is_replaced_from_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources: list[Path] = []
    rename = os.replace

    def recorded(source: str, target: Path) -> None:
        sources.append(Path(source))
        rename(source, target)

    monkeypatch.setattr(os, "replace", recorded)
    file = ThresholdFile(tmp_path / "thresholds.json")
    file.write("\u00b5", "nf4", make())
    (source,) = sources
    assert source.parent.parent == tmp_path
    assert source.parent.name.startswith(".thresholds.json.")
    assert [path.name for path in tmp_path.iterdir()] == ["thresholds.json"]
    assert '"\u00b5"' in file.path.read_text(encoding="utf-8")


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)], ids=oct)
def test_the_file_s_permissions_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    """Not those of a temporary file, which nobody else can read."""
    file = ThresholdFile(tmp_path / "thresholds.json")
    before = os.umask(umask)
    try:
        file.write("tiny", "nf4", make())
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.path.stat().st_mode) == mode


def test_the_file_is_utf_8_where_the_locale_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python asks `io.text_encoding` for the encoding of a file that is opened without one."""
    monkeypatch.setattr(io, "text_encoding", lambda encoding, stacklevel=2: encoding or "ascii")
    with pytest.raises(UnicodeEncodeError):
        (tmp_path / "other").write_text("\u00b5")
    file = ThresholdFile(tmp_path / "thresholds.json")
    file.write("\u00b5", "nf4", make())
    assert file.read("\u00b5", "nf4").kl == make().kl


def test_a_list_of_numbers_takes_one_line(tmp_path: Path) -> None:
    file = ThresholdFile(tmp_path / "thresholds.json")
    file.write("tiny", "nf4", make())
    lines = file.path.read_text(encoding="utf-8").splitlines()
    assert '     "baseline": [1.0, 0.333333333, 2e-07],' in lines


def test_a_missing_threshold_names_scheme_file_and_command(tmp_path: Path) -> None:
    file = ThresholdFile(tmp_path / "thresholds.json")
    with pytest.raises(QuantError, match=r"nf4 of tiny has no threshold in .*json: record it with pytest --update"):
        file.read("tiny", "nf4")
    file.write("tiny", "nf4", make())
    with pytest.raises(QuantError, match="fp4 of tiny has no threshold"):
        file.read("tiny", "fp4")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as thresholds"),
        ("[]", "does not hold thresholds of format 1"),
        ('{"format": 2, "thresholds": {}}', "does not hold thresholds of format 1"),
        ('{"format": 1}', "does not hold thresholds of format 1"),
        ('{"format": 1, "thresholds": []}', "does not hold thresholds of format 1"),
        ('{"format": 1, "thresholds": {"tiny": 1}}', "does not hold thresholds of format 1"),
    ],
)
def test_a_file_of_something_else_is_refused_and_kept(tmp_path: Path, content: str, message: str) -> None:
    file = ThresholdFile(tmp_path / "thresholds.json")
    file.path.write_text(content)
    with pytest.raises(QuantError, match=message):
        file.read("tiny", "nf4")
    with pytest.raises(QuantError, match=message):
        file.write("tiny", "nf4", make())
    assert file.path.read_text() == content


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = ThresholdFile(tmp_path / "no" / "thresholds.json")
    with pytest.raises(QuantError, match=r"cannot be written: there is no folder .*no, make it first"):
        file.write("tiny", "nf4", make())


def test_a_write_that_fails_leaves_the_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = ThresholdFile(tmp_path / "thresholds.json")
    file.write("tiny", "nf4", make())
    before = file.path.read_bytes()

    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(QuantError, match=r"thresholds\.json cannot be written: .*No space left"):
        file.write("tiny", "nf4", make(kl=2.0))
    assert file.path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["thresholds.json"]


def without(entry: dict[str, Any], *path: str) -> None:
    for name in path[:-1]:
        entry = entry[name]
    del entry[path[-1]]


@pytest.mark.parametrize("path", [("kl",), ("kl", "margin"), ("windows", "losses"), ("provenance",)], ids="-".join)
def test_a_damaged_threshold_is_told(tmp_path: Path, path: tuple[str, ...]) -> None:
    file = ThresholdFile(tmp_path / "thresholds.json")
    file.write("tiny", "nf4", make())
    content = json.loads(file.path.read_text())
    without(content["thresholds"]["tiny"]["nf4"], *path)
    file.path.write_text(json.dumps(content))
    with pytest.raises(QuantError, match="the threshold of nf4 of tiny is damaged"):
        file.read("tiny", "nf4")


def test_columns_of_different_lengths_are_damage(tmp_path: Path) -> None:
    file = ThresholdFile(tmp_path / "thresholds.json")
    windows = replace(make().windows, kl=torch.zeros(2, dtype=torch.float64))
    file.write("tiny", "nf4", replace(make(), windows=windows))
    with pytest.raises(QuantError, match="windows of different lengths"):
        file.read("tiny", "nf4")


@pytest.mark.parametrize("path", [("change", "noise"), ("kl", "margin"), ("provenance", "window")], ids="-".join)
def test_an_edited_threshold_is_refused(tmp_path: Path, path: tuple[str, str]) -> None:
    file = ThresholdFile(tmp_path / "thresholds.json")
    file.write("tiny", "nf4", make())
    content = json.loads(file.path.read_text())
    content["thresholds"]["tiny"]["nf4"][path[0]][path[1]] *= 10
    file.path.write_text(json.dumps(content))
    with pytest.raises(QuantError, match=r"nf4 of tiny does not fit its checksum, it was edited: restore it, or"):
        file.read("tiny", "nf4")


def test_another_layout_of_the_same_values_is_no_edit(tmp_path: Path) -> None:
    file = ThresholdFile(tmp_path / "thresholds.json")
    file.write("tiny", "nf4", make())
    file.path.write_text(json.dumps(json.loads(file.path.read_text()), indent=4, sort_keys=True))
    assert file.read("tiny", "nf4").kl == 0.25


def test_a_list_of_names_takes_one_line_and_text_with_brackets_stays(tmp_path: Path) -> None:
    file = ThresholdFile(tmp_path / "thresholds.json")
    command = "pytest 'test[  1,  2 ]'"
    file.write("tiny", "nf4", replace(make(), provenance={"window": 8, "command": command}))
    assert '     "W8A16()": ["a", "b"]' in file.path.read_text(encoding="utf-8").splitlines()
    assert file.read("tiny", "nf4").provenance["command"] == command
