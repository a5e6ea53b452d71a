"""`import quant` makes our methods known to transformers, before or after it is imported, and imports none of it."""

import subprocess
import sys

import pytest
from transformers.quantizers import auto

from quant.integrations.mixed_precision_config import REGISTERED
from quant.integrations.quantizer import QuantizerForTransformers
from quant.integrations.registration import announce

KNOWN = """
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING, AUTO_QUANTIZER_MAPPING
for mapping in (AUTO_QUANTIZATION_CONFIG_MAPPING, AUTO_QUANTIZER_MAPPING):
    print(*sorted(name for name in mapping if name.startswith("quant-")))
"""
OURS = " ".join(sorted(config.method() for config in REGISTERED))


def run(script: str) -> list[str]:
    """The lines that `script` prints in a process of its own."""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return result.stdout.splitlines()


def test_importing_quant_first_imports_nothing_and_registers_every_method_later() -> None:
    script = "import quant, sys; print(*(name in sys.modules for name in ('transformers', 'peft', 'bitsandbytes')))"
    assert run(f"{script}\nimport transformers.modeling_utils{KNOWN}") == ["False False False", OURS, OURS]


def test_importing_quant_last_registers_every_method_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers is imported here; and what an earlier import has registered is replaced."""
    for mapping in (auto.AUTO_QUANTIZATION_CONFIG_MAPPING, auto.AUTO_QUANTIZER_MAPPING):
        monkeypatch.delitem(mapping, REGISTERED[0].method())
        monkeypatch.setitem(mapping, REGISTERED[1].method(), None)
    announce()
    for config in REGISTERED:
        assert auto.AUTO_QUANTIZATION_CONFIG_MAPPING[config.method()] is config
        assert auto.AUTO_QUANTIZER_MAPPING[config.method()] is QuantizerForTransformers


def test_unknown_names_are_attribute_errors() -> None:
    import quant  # noqa: PLC0415

    with pytest.raises(AttributeError, match="module 'quant' has no attribute 'NF5Config'"):
        quant.NF5Config  # noqa: B018
