"""`import quant` makes our methods known to transformers, before or after it is imported, and imports none of it."""

import subprocess
import sys

import pytest

from quant.integrations.quantization_config import CONFIGS

KNOWN = """
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING, AUTO_QUANTIZER_MAPPING
for mapping in (AUTO_QUANTIZATION_CONFIG_MAPPING, AUTO_QUANTIZER_MAPPING):
    print(*sorted(name for name in mapping if name.startswith("quant-")))
"""
OURS = " ".join(sorted(config.method() for config in CONFIGS))


def run(script: str) -> list[str]:
    """The lines that `script` prints in a process of its own."""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return result.stdout.splitlines()


def test_every_method_is_registered_after_transformers_and_once_more() -> None:
    """The other order is that of the command line, which loads quantized models in other tests."""
    first = "import transformers.modeling_utils, quant, importlib\nimportlib.reload(quant)"
    assert run(first + KNOWN) == [OURS, OURS]


def test_importing_quant_imports_neither_transformers_nor_peft() -> None:
    script = "import quant, sys; print(*(name in sys.modules for name in ('transformers', 'peft', 'bitsandbytes')))"
    assert run(script) == ["False False False"]


def test_unknown_names_are_attribute_errors() -> None:
    import quant  # noqa: PLC0415

    with pytest.raises(AttributeError, match="module 'quant' has no attribute 'NF5Config'"):
        quant.NF5Config  # noqa: B018
