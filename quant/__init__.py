"""W8A16 and NF4 quantizers for PyTorch language models, and the suite that holds their size, accuracy and speed.

Everything public is here; see the README for the command line.
"""

from quant.convert import ConversionReport, conversion_report, dequantize, quantize
from quant.errors import QuantError
from quant.modules import BlockwiseLinear, W8A16Linear
from quant.schemes import FP4, INT4, NF4, W8A16, Scheme
from quant.tensor import QuantizedTensor, quantize_tensor

__version__ = "0.1.0"

__all__ = [
    "FP4",
    "INT4",
    "NF4",
    "W8A16",
    "BlockwiseLinear",
    "ConversionReport",
    "QuantError",
    "QuantizedTensor",
    "Scheme",
    "W8A16Linear",
    "conversion_report",
    "dequantize",
    "quantize",
    "quantize_tensor",
]
