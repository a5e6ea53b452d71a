"""W8A16 and NF4 quantizers for PyTorch language models, and the suite that holds their size, accuracy and speed.

Everything public is here; see the README for the command line.
"""

from typing import TYPE_CHECKING, Any

from quant.convert import ConversionReport, conversion_report, dequantize, quantize
from quant.errors import QuantError
from quant.integrations.registration import announce
from quant.modules import BlockwiseLinear, W8A16Linear
from quant.schemes import FP4, INT4, NF4, W8A16, Scheme
from quant.tensor import QuantizedTensor, quantize_tensor
from quant.version import __version__

if TYPE_CHECKING:
    from quant.integrations.quantization_config import FP4Config, INT4Config, NF4Config, W8A16Config

__all__ = [
    "FP4",
    "INT4",
    "NF4",
    "W8A16",
    "BlockwiseLinear",
    "ConversionReport",
    "FP4Config",
    "INT4Config",
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

announce()


def __getattr__(name: str) -> Any:
    """The configurations for transformers, which is imported with the first of them."""
    if name in ("FP4Config", "INT4Config", "NF4Config", "W8A16Config"):
        from quant.integrations import quantization_config  # noqa: PLC0415

        return getattr(quantization_config, name)
    raise AttributeError(f"module 'quant' has no attribute {name!r}")
