"""No golden file goes, changes or comes unnoticed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from quant.integrations.quantization_config import FORMAT_VERSION
from quant.schemes import SCHEMES
from tests.checkpoints import flip
from tests.golden.make import FOLDER
from tests.golden.sums import SUMS, differences, record, sums

VERSIONS = [f"v{version}" for version in range(1, FORMAT_VERSION + 1)]


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a scheme": (lambda folder: shutil.rmtree(folder / "fp4"), "missing: fp4/config.json"),
    "a file": (lambda folder: (folder / "nf4" / "packed.json").unlink(), "missing: nf4/packed.json"),
    "a weight": (lambda folder: flip(folder / "int4" / "model.safetensors", -1), "altered: int4/model.safetensors"),
    "a setting": (
        lambda folder: flip(folder / "w8a16" / "generation_config.json", -1),
        "altered: w8a16/generation_config.json",
    ),
    "a new file": (lambda folder: (folder / "nf4" / "more.json").write_text("{}"), "not on the list: nf4/more.json"),
    "the list": (lambda folder: (folder / SUMS).unlink(), "not on the list: fp4/config.json"),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_golden_file_is_as_it_was_written(version: str) -> None:
    assert differences(FOLDER / version) == []
    assert len(sums(FOLDER / version)) >= 6 * len(SCHEMES)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named(damage: str, tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER / VERSIONS[-1], tmp_path / "copy")
    act, expected = DAMAGE[damage]
    act(folder)
    assert expected in differences(folder)


def test_writing_the_list_anew_hides_nothing(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER / VERSIONS[-1], tmp_path / "copy")
    flip(folder / "nf4" / "model.safetensors", -1)
    shutil.rmtree(folder / "fp4")
    found = differences(folder)
    record(folder)
    assert differences(folder) == found != []
