"""Every golden checkpoint loads, to the bit, and its layers compute what they computed when it was written."""

import json
from pathlib import Path

import pytest
import torch

from quant import native, quantize
from quant.integrations.quantization_config import FORMAT_VERSION
from quant.schemes import SCHEMES
from tests.checkpoints import contents, load, save, state
from tests.golden.make import EXPECTED, FOLDER, FOLDERS, MIXED, PLAN_FILE, SIZES, facts
from tests.models import tiny_phi3


def test_each_version_has_each_of_its_schemes() -> None:
    found = {(folder.parent.name, folder.name) for folder in FOLDERS}
    assert found >= {(f"v{version}", name) for version in range(1, FORMAT_VERSION + 1) for name in (*SCHEMES, MIXED)}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_it_loads_and_computes_the_same_bits(folder: Path) -> None:
    """Whatever the kernels are, for they compute in integers; where there are none, layers compute in floats."""
    expected = json.loads((folder / EXPECTED).read_text(encoding="utf-8"))
    found = facts(load(folder))
    assert found["tensors"] == expected["tensors"]
    assert found["outputs"].keys() == expected["outputs"].keys()
    assert native.variant() == "torch" or found["outputs"] == expected["outputs"]


@pytest.mark.parametrize("name", [*SCHEMES, MIXED])
def test_the_current_version_is_written_as_it_was(name: str, tmp_path: Path) -> None:
    """But for the version of transformers, which config.json names."""
    golden = FOLDER / f"v{FORMAT_VERSION}" / name
    written = contents(save(load(golden), tmp_path))
    assert written["model.safetensors"] == (golden / "model.safetensors").read_bytes()
    quantization = [
        json.loads(text)["quantization_config"]
        for text in (written["config.json"], (golden / "config.json").read_bytes())
    ]
    assert quantization[0] == quantization[1]


def test_the_plan_is_read_and_makes_the_checkpoint_beside_it() -> None:
    folder = FOLDER / "v1" / MIXED
    model = quantize(tiny_phi3(**SIZES).to(torch.bfloat16), folder / PLAN_FILE)
    assert state(model) == state(load(folder))
