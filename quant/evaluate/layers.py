"""Which layers of a model are in which format, and whether they are those that were recorded.

A layer left unquantized makes a model better, and in bfloat16, where rounding moves losses by thousandths of a nat, no
measurement of losses tells it from the recorded one. The names and formats of the layers do, in every dtype: the whole
scheme of our layers, and of other libraries' what the weight says of itself, which need not be all that sets it apart.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from quant.dtypes import dtype_name
from quant.evaluate.gates import Check, Verdict
from quant.evaluate.thresholds import UPDATE
from quant.modules import QuantizedLinear

SHOWN = 5
"""Names in a message."""

PLAIN = (Tensor, nn.Parameter)
"""Classes of weights that say nothing of their format."""
Formats = Mapping[str, list[str]]
"""Format -> the names of the layers in it."""


def layer_formats(model: nn.Module) -> dict[str, list[str]]:
    """The formats of all modules with a weight of two dimensions or more: the scheme of our layers, as `NF4(...)`; of
    others the class and the weight's dtype, as in `Linear float32`, and what else the weight says of itself.
    """
    formats: dict[str, list[str]] = {}
    for name, module in model.named_modules():
        if isinstance(module, QuantizedLinear):
            formats.setdefault(str(module.scheme), []).append(name)
        elif (weight := _matrix(module)) is not None:
            formats.setdefault(f"{type(module).__name__} {_weight_format(weight)}", []).append(name)
    return formats


def float_layers(model: nn.Module) -> set[str]:
    """The names of the modules whose weight, of two dimensions or more, is an ordinary floating-point tensor."""
    weights = {
        name: _matrix(module) for name, module in model.named_modules() if not isinstance(module, QuantizedLinear)
    }
    return {
        name
        for name, weight in weights.items()
        if weight is not None and type(weight) in PLAIN and weight.is_floating_point()
    }


def _matrix(module: nn.Module) -> Tensor | None:
    weight = getattr(module, "weight", None)
    return weight if isinstance(weight, Tensor) and weight.ndim >= 2 else None


def _weight_format(weight: Tensor) -> str:
    """Its dtype; its class where that is one of its own, as torchao's are, which stand in an ordinary `Linear` and have
    the dtype of what they were; and what bitsandbytes keeps beside 4-bit codes.
    """
    parts = [dtype_name(weight.dtype)]
    if type(weight) not in PLAIN:
        parts.append(type(weight).__name__)
    if state := getattr(weight, "quant_state", None):
        parts.append(f"{state.quant_type}, blocks of {state.blocksize}{', double quantization' * bool(state.nested)}")
    return " ".join(parts)


def check_layers(recorded: Formats, now: Formats) -> Check:
    """A regression where any layer is in another format than it was, is new, or is gone."""
    then, today = _format_of(recorded), _format_of(now)
    names = differing(then, today)
    if not names:
        return Check("layers", Verdict.PASS, f"layers in the recorded formats ({counted(now)}): pass")
    lines = [f"{name} was {then.get(name, 'not there')}, is {today.get(name, 'gone')}" for name in names]
    text = (
        f"layers in other formats than recorded: {first_of(lines, '; ')}: if the change is meant, record it with "
        f"{UPDATE}: {Verdict.REGRESSION.value}"
    )
    return Check("layers", Verdict.REGRESSION, text)


def differing(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The names that have another value than they had, are new, or are gone."""
    return [name for name in dict.fromkeys([*then, *now]) if then.get(name) != now.get(name)]


def first_of(items: Sequence[str], separator: str) -> str:
    """The first `SHOWN`, and how many more there are."""
    more = f", and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return f"{separator.join(items[:SHOWN])}{more}"


def counted(formats: Formats) -> str:
    """How many layers are in which format."""
    return ", ".join(f"{len(names)} {format_}" for format_, names in formats.items())


def _format_of(formats: Formats) -> dict[str, str]:
    return {name: format_ for format_, names in formats.items() for name in names}
