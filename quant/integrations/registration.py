"""Tells transformers of our methods as soon as it can load models, and not before: `import quant` must not import it.

transformers has no entry points for quantizers. A checkpoint of ours loads only after `import quant`, in whichever
order both were imported. Without that import transformers warns of an unknown method and goes on, but not to an end:
the stored weights have other shapes than the layers, which it refuses.
"""

from types import ModuleType

import wrapt


def announce() -> None:
    """Register the quantizer and the configurations, now or when transformers' loading of models is imported."""
    wrapt.register_post_import_hook(_register, "transformers.modeling_utils")


def _register(_: ModuleType) -> None:
    from transformers.quantizers import auto  # noqa: PLC0415

    from quant.convert import observe_conversions  # noqa: PLC0415
    from quant.integrations.marking import mark  # noqa: PLC0415
    from quant.integrations.mixed_precision_config import REGISTERED  # noqa: PLC0415
    from quant.integrations.quantizer import QuantizerForTransformers  # noqa: PLC0415

    for config in REGISTERED:
        for mapping in (auto.AUTO_QUANTIZATION_CONFIG_MAPPING, auto.AUTO_QUANTIZER_MAPPING):
            mapping.pop(config.method(), None)  # of an earlier import of this library
        auto.register_quantization_config(config.method())(config)
        auto.register_quantizer(config.method())(QuantizerForTransformers)
    observe_conversions(mark)
