"""What config.json says of a checkpoint that this library quantized, read and written.

The `quantization_config` itself is `quant.integrations.quantization_config`, whose classes are transformers' own. That
takes seconds to import; callers of these functions do not pay them before they have a checkpoint.
"""

from collections.abc import Iterable
from typing import Any

from quant.schemes import Scheme


def our_config(scheme: Scheme, layers: Iterable[str]) -> dict[str, Any]:
    """The `quantization_config` with which `from_pretrained` rebuilds the quantized `layers` (names)."""
    from quant.integrations.quantization_config import QuantConfig  # noqa: PLC0415

    return QuantConfig.of(scheme, layers).to_dict()


def read_our_config(quantization: Any) -> tuple[Scheme, frozenset[str]] | None:
    """(scheme, names of the quantized layers) of the `quantization_config` of a config.json; None where there is none
    or it is another library's.

    Raises:
        QuantError: it is ours, but of a newer version or damaged.
    """
    from quant.integrations.quantization_config import read_config  # noqa: PLC0415

    found = read_config(quantization)
    return None if found is None else (found.scheme, frozenset(found.quantized_modules or ()))
