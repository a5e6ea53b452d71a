"""W8A16 and NF4 quantizers for PyTorch language models, and the suite that holds their size, accuracy and speed.

Everything public is here; see the README for the command line. Names are imported when they are first used, torch and
transformers with them: pytest imports this package in every run where it is installed, for its plugin.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from quant.integrations.registration import announce
from quant.version import __version__

if TYPE_CHECKING:
    from quant.convert import ConversionReport, conversion_report, dequantize, quantize
    from quant.errors import QuantError
    from quant.integrations.mixed_precision_config import MixedPrecisionConfig
    from quant.integrations.quantization_config import FP4Config, INT4Config, NF4Config, W8A16Config
    from quant.mixed_precision import MixedPrecision
    from quant.modules import BlockwiseLinear, W8A16Linear
    from quant.schemes import FP4, INT4, NF4, W8A16, Scheme
    from quant.tensor import QuantizedTensor, quantize_tensor

__all__ = [
    "FP4",
    "INT4",
    "NF4",
    "W8A16",
    "BlockwiseLinear",
    "ConversionReport",
    "FP4Config",
    "INT4Config",
    "MixedPrecision",
    "MixedPrecisionConfig",
    "NF4Config",
    "QuantError",
    "QuantizedTensor",
    "Scheme",
    "W8A16Config",
    "W8A16Linear",
    "__version__",
    "conversion_report",
    "dequantize",
    "quantize",
    "quantize_tensor",
]

_HOMES = {
    "quant.convert": ("ConversionReport", "conversion_report", "dequantize", "quantize"),
    "quant.errors": ("QuantError",),
    "quant.integrations.mixed_precision_config": ("MixedPrecisionConfig",),
    "quant.integrations.quantization_config": ("FP4Config", "INT4Config", "NF4Config", "W8A16Config"),
    "quant.mixed_precision": ("MixedPrecision",),
    "quant.modules": ("BlockwiseLinear", "W8A16Linear"),
    "quant.schemes": ("FP4", "INT4", "NF4", "W8A16", "Scheme"),
    "quant.tensor": ("QuantizedTensor", "quantize_tensor"),
}
"""The module of each public name."""

announce()


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(module), name)
            return value
    raise AttributeError(f"module 'quant' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
