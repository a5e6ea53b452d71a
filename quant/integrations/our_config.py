"""What config.json says of a checkpoint that this library quantized, read and written.

The `quantization_config` itself is `quant.integrations.mixed_precision_config`, whose classes are transformers' own.
That takes seconds to import; callers of these functions do not pay them before they have a checkpoint.
"""

from collections.abc import Mapping
from typing import Any

from quant.schemes import Scheme


def our_config(schemes: Mapping[str, Scheme]) -> dict[str, Any]:
    """The `quantization_config` with which `from_pretrained` rebuilds the quantized layers, name -> scheme."""
    from quant.integrations.mixed_precision_config import config_of  # noqa: PLC0415

    config: dict[str, Any] = config_of(schemes).to_dict()
    return config


def read_our_config(quantization: Any) -> dict[str, Scheme] | None:
    """Name -> scheme of the quantized layers, by the `quantization_config` of a config.json; None where there is none
    or it is another library's.

    Raises:
        QuantError: it is ours, but of a newer version or damaged.
    """
    from quant.integrations.mixed_precision_config import read_config  # noqa: PLC0415

    found = read_config(quantization)
    return None if found is None else found.schemes or {}
