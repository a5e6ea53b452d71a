"""How bitsandbytes is run: eagerly, and saying nothing but errors; and a float model for it to quantize."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from quant.integrations.transformers import quiet_transformers
from tests.models import tiny_phi3


@pytest.fixture(autouse=True)
def eager() -> Iterator[None]:
    """What bitsandbytes wrapped in torch.compile runs uncompiled, and transformers says nothing but errors."""
    with torch.compiler.set_stance("force_eager"), quiet_transformers():
        yield


@pytest.fixture(scope="session")
def float_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Phi-3 in float32."""
    folder = tmp_path_factory.mktemp("float")
    with quiet_transformers():
        tiny_phi3().save_pretrained(folder)
    return folder
