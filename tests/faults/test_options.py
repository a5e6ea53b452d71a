"""No option is ignored (M6): for every option of every public name, two values of it make a difference that can be
seen. The options are taken from the signatures, so a new one without an entry here fails.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import quant
from quant.integrations.quantization_config import CONFIGS
from quant.modules import QuantizedLinear
from quant.schemes import FP4, INT4, NF4, W8A16
from tests.models import Layers, seeded
from tests.strategies import bits, normal

WEIGHT = normal((8, 96))
Seen = list[object]
Effects = dict[str, Callable[[], Seen]]


def first_layer(scheme: quant.Scheme) -> quant.QuantizedTensor:
    layer = quant.quantize(seeded(Layers), scheme).get_submodule("layers.0")
    assert isinstance(layer, QuantizedLinear)
    return layer.quantized_weight


def converted(**options: Any) -> tuple[str, ...]:
    return quant.conversion_report(quant.quantize(seeded(Layers), **{"scheme": W8A16(), **options})).converted


def values(tensor: quant.QuantizedTensor) -> tuple[list[int], list[int]]:
    """Codes and scales: the format's tag repeats the options whether or not they were followed."""
    return bits(tensor.codes), bits(tensor.scales)


def layout(layer: nn.Module) -> dict[str, tuple[torch.Size, torch.dtype, torch.device]]:
    """The tensors of a layer: its attributes repeat the options too."""
    return {name: (tensor.shape, tensor.dtype, tensor.device) for name, tensor in layer.state_dict().items()}


def of_layer(kind: Any, scheme: Any, other_scheme: Any) -> Effects:
    """The constructor of a layer; W8A16 is one scheme, so its layer has no other to be given."""
    base = {"in_features": 64, "out_features": 8, "scheme": scheme}
    others: dict[str, Any] = {
        "in_features": 96,
        "out_features": 9,
        "scheme": other_scheme,
        "bias": False,
        "device": "meta",
        "dtype": torch.float16,
    }

    def seen(name: str, value: Any) -> Seen:
        return [layout(kind(**base)), layout(kind(**{**base, name: value}))]

    return {name: functools.partial(seen, name, value) for name, value in others.items() if value is not None}


def of_scheme(kind: Any) -> Effects:
    def seen(**options: Any) -> object:
        return values(quant.quantize_tensor(WEIGHT, kind(**options)))

    scale: Effects = {"scale": lambda: [seen(), seen(scale="mse")]}
    if kind is W8A16:
        return scale
    return scale | {
        "block_size": lambda: [seen(), *(seen(block_size=size) for size in (32, 128))],
        "double_quant": lambda: [seen(), seen(double_quant=True)],
    }


def of_config(kind: Any) -> Effects:
    """What the quantizer for transformers is told; `tests/unit/integrations` loads models with it."""

    def seen(**options: Any) -> object:
        config = kind(**options)
        return config.scheme, config.include, config.exclude, config.quantized_modules, config.to_dict()

    def both(name: str, value: Any) -> Seen:
        return [seen(), seen(**{name: value})]

    others: dict[str, Any] = {"include": "*.a", "exclude": "*.b", "quantized_modules": ["c"], "scale": "mse"}
    if kind.scheme_type is not W8A16:
        others |= {"block_size": 128, "double_quant": True}
    return {name: functools.partial(both, name, value) for name, value in others.items()}


EFFECTS: dict[str, Effects] = {
    "quantize": {
        "scheme": lambda: [values(first_layer(scheme)) for scheme in (W8A16(), NF4(), FP4(), INT4())],
        "include": lambda: [converted(), converted(include="layers.0"), converted(include=["*", "lm_head"])],
        "exclude": lambda: [converted(), converted(exclude="layers.0")],
    },
    "quantize_tensor": {
        "scheme": lambda: [values(quant.quantize_tensor(WEIGHT, scheme)) for scheme in (W8A16(), NF4(), FP4(), INT4())]
    },
    "dequantize": {},
    "conversion_report": {},
    "W8A16": of_scheme(W8A16),
    "NF4": of_scheme(NF4),
    "FP4": of_scheme(FP4),
    "INT4": of_scheme(INT4),
    "W8A16Linear": of_layer(quant.W8A16Linear, W8A16(), None),
    "BlockwiseLinear": of_layer(quant.BlockwiseLinear, NF4(), NF4(32)),
    "W8A16Linear.from_linear": {},
    "BlockwiseLinear.from_linear": {
        "scheme": lambda: [
            layout(quant.BlockwiseLinear.from_linear(nn.Linear(64, 8), scheme)) for scheme in (NF4(), NF4(32))
        ]
    },
    "QuantizedTensor.dequantize": {
        "dtype": lambda: [
            quant.quantize_tensor(WEIGHT, NF4()).dequantize(dtype).dtype for dtype in (None, torch.float16)
        ]
    },
    **{kind.__name__: of_config(kind) for kind in CONFIGS},
}
"""Public callable -> option -> what was seen with different values of it."""
SUBJECTS = {"model", "weight", "linear", "self"}
"""What is worked on."""
SINGLE = {
    ("W8A16Linear", "scheme"),
    ("W8A16Linear.from_linear", "scheme"),
    *((kind.__name__, name) for kind in CONFIGS for name in ("format_version", "quant_method")),
}
"""Options with one value that is not refused (`tests/unit/test_modules.py`, `.../test_quantization_config.py`)."""
NOT_CALLED = {"QuantError", "Scheme", "ConversionReport", "QuantizedTensor", "__version__"}
"""Public names that users are given and do not make."""


def options_of(name: str) -> set[str]:
    """The options of a public callable, by its signature."""
    function: Any = quant
    for part in name.split("."):
        function = getattr(function, part)
    found = set(inspect.signature(function).parameters) - SUBJECTS
    if function in CONFIGS:  # which take the options of their scheme
        found = found - {"options"} | {field.name for field in dataclasses.fields(function.scheme_type)}
    return {option for option in found if (name, option) not in SINGLE}


def test_m6_every_option_has_an_entry() -> None:
    assert {name.partition(".")[0] for name in EFFECTS} == set(quant.__all__) - NOT_CALLED | {"QuantizedTensor"}
    assert {name: set(effects) for name, effects in EFFECTS.items()} == {name: options_of(name) for name in EFFECTS}


@pytest.mark.parametrize(
    ("name", "option"), [(name, option) for name, effects in EFFECTS.items() for option in effects], ids=str
)
def test_m6_another_value_of_an_option_makes_a_difference(name: str, option: str) -> None:
    seen = EFFECTS[name][option]()
    assert len(seen) > 1
    assert all(one != other for index, one in enumerate(seen) for other in seen[:index])
