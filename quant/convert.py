"""Quantize and dequantize whole models in memory.

`quantize` first decides what to convert (`quant.selection`), then makes every quantized layer, and only when all are
made puts them in place. An exception on the way, even Ctrl-C, leaves the model as it was. The price is memory: until
the end, the float model and the quantized layers exist side by side (model + its quantized size).

`replace_layers` is the walk by itself, for loaders that fill the layers later, and `quantized_for_a_while` the same for
measuring, which puts the float layers back. Those who keep a record of what a model is made of (transformers'
configurations) are told of every conversion: `observe_conversions`.

Forward hooks move to the new layer. Refused before anything is changed: a model that is already quantized (by this or
another library), a model that is itself one linear layer, a layer whose `forward` was replaced on the instance
(accelerate's offloading does that), NaN or Inf in a weight.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from torch import nn

from quant.assignment import Assignment, assign
from quant.errors import QuantError
from quant.linears import is_from_bitsandbytes
from quant.mixed_precision import MixedPrecision
from quant.modules import QuantizedLinear, quantized_linear
from quant.schemes import Scheme
from quant.tensor import check_scheme

_REPORT_ATTRIBUTE = "_quant_report"
_observers: list[Callable[[nn.Module], None]] = []
ModuleT = TypeVar("ModuleT", bound=nn.Module)
_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_is_full_backward_hook",
)


@dataclass(frozen=True)
class ConversionReport:
    """What `quantize` did.

    Attributes:
        schemes: name -> scheme of the converted layers, in model order.
        left: name -> reason, for every linear layer that was not converted.
        bytes_before, bytes_after: of the converted weights (scales included, biases not).
    """

    schemes: dict[str, Scheme]
    left: dict[str, str]
    bytes_before: int
    bytes_after: int

    @property
    def converted(self) -> tuple[str, ...]:
        """Names of the converted layers, in model order."""
        return tuple(self.schemes)

    @property
    def scheme(self) -> Scheme | None:
        """The scheme of every converted layer, None where they have several."""
        found = set(self.schemes.values())
        return found.pop() if len(found) == 1 else None

    def __str__(self) -> str:
        layers = len(self.schemes) + len(self.left)
        lines = [
            f"{len(self.schemes)} of {layers} linear layers converted to {counted(self.schemes)}: "
            f"{self.bytes_before:,} -> {self.bytes_after:,} bytes"
        ]
        lines += [f"  left {name}: {reason}" for name, reason in self.left.items()]
        return "\n".join(lines)


def counted(schemes: Mapping[str, Scheme]) -> str:
    """The schemes of layers, with how many have which where there are several."""
    counts = Counter(map(str, schemes.values()))
    return next(iter(counts)) if len(counts) == 1 else ", ".join(f"{n} {scheme}" for scheme, n in counts.most_common())


def quantize(
    model: nn.Module,
    scheme: Scheme | MixedPrecision | str | Path,
    include: Iterable[str] | str | None = None,
    exclude: Iterable[str] | str | None = None,
) -> nn.Module:
    """Replace linear layers of `model` by quantized ones, in place.

    Args:
        model: any module; layers may be on any device (on meta the result is on meta).
        scheme: `W8A16()`, `NF4(...)`, `FP4(...)` or `INT4(...)`; or, for mixed precision, a plan with one for
            every linear layer: a `MixedPrecision`, or the path of its JSON file (a string has to end in .json).
        include: globs of layers to quantize, on whole dotted names (`quant.selection`), default all. The output head is
            left alone unless it is named here, without wildcards; tied weights always are. Not with a plan.
        exclude: globs of layers to leave, on top of those. Not with a plan.

    Returns:
        `model`. `conversion_report(model)` tells what was converted and what was left.

    Raises:
        QuantError: see the module docstring; the model is unchanged.
    """
    if isinstance(scheme, Path) or (isinstance(scheme, str) and scheme.endswith(".json")):
        scheme = MixedPrecision.read(scheme)
    if not isinstance(scheme, MixedPrecision):
        check_scheme(scheme)
        assert isinstance(scheme, Scheme)
    _refuse_quantized(model)
    replace_layers(model, assign(model, scheme, include, exclude))
    _tell(model)
    return model


def replace_layers(model: nn.Module, assignment: Assignment) -> ConversionReport:
    """Put quantized layers in the place of those that are to be, in place; on the meta device they wait for their
    codes.

    Raises:
        QuantError: a layer cannot be quantized; the model is unchanged.
    """
    replacements: dict[int, QuantizedLinear] = {}
    before = after = 0
    for name, scheme in assignment.schemes.items():
        layer = model.get_submodule(name)
        replacement = _converted(name, layer, scheme)
        replacements[id(layer)] = replacement
        before += layer.get_parameter("weight").nbytes
        after += replacement.quantized_weight.nbytes
    report = ConversionReport(assignment.schemes, assignment.left, before, after)
    _swap(model, replacements)
    object.__setattr__(model, _REPORT_ATTRIBUTE, report)
    return report


@contextmanager
def quantized_for_a_while(model: nn.Module, schemes: Mapping[str, Scheme]) -> Iterator[ConversionReport]:
    """Within, the layers called so are quantized; afterwards, also after an exception, the same float layers are back,
    with their hooks, so that the model is what it was to the bit.

    Raises:
        QuantError: as `replace_layers`, or the model is already quantized; it is unchanged.
    """
    _refuse_quantized(model)
    originals = {name: model.get_submodule(name) for name in schemes}
    try:
        report = replace_layers(model, Assignment(dict(schemes), {}))
        _tell(model)
        yield report
    finally:
        _swap(model, {id(model.get_submodule(name)): original for name, original in originals.items()})
        vars(model).pop(_REPORT_ATTRIBUTE, None)
        _tell(model)


def dequantize(model: nn.Module) -> nn.Module:
    """Replace every quantized layer of `model` by a float layer of its original type, in place.

    Returns:
        `model`, with the weights that the codes stand for (the loss of quantization stays).

    Raises:
        QuantError: the model has no quantized layers of this library, is one itself, or the forward of one was replaced
            (accelerate's offloading does that). The model is unchanged.
    """
    replacements: dict[int, nn.Module] = {}
    for name, module in model.named_modules():
        if isinstance(module, QuantizedLinear):
            if not name:
                raise QuantError("the model is itself a quantized layer: call its dequantize()")
            _refuse_replaced_forward(name, module)
            replacements[id(module)] = _with_hooks(module.dequantize(), module)
    if not replacements:
        raise QuantError(f"{type(model).__name__} has no layers quantized by this library")
    _swap(model, replacements)
    vars(model).pop(_REPORT_ATTRIBUTE, None)
    _tell(model)
    return model


def observe_conversions(observer: Callable[[nn.Module], None]) -> None:
    """Call `observer(model)` after each `quantize` and `dequantize` of a model, with its new layers in place."""
    if observer not in _observers:
        _observers.append(observer)


def _tell(model: nn.Module) -> None:
    for observer in _observers:
        observer(model)


def conversion_report(model: nn.Module) -> ConversionReport:
    """What `quantize` did to `model`.

    Raises:
        QuantError: `model` was not quantized by `quantize`.
    """
    report = vars(model).get(_REPORT_ATTRIBUTE)
    if not isinstance(report, ConversionReport):
        raise QuantError(f"{type(model).__name__} was not quantized by quant.quantize, so there is no report")
    return report


def _refuse_quantized(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, QuantizedLinear):
            raise QuantError(
                f"{name or type(model).__name__} is already quantized ({module.scheme}): call quant.dequantize first"
            )
        if is_from_bitsandbytes(module):
            raise QuantError(
                f"{name or type(model).__name__} is quantized by bitsandbytes: load the float model instead"
            )
    if getattr(model, "is_quantized", False):
        method = getattr(model, "quantization_method", "another method")
        raise QuantError(f"{type(model).__name__} is already quantized ({method}): load the float model instead")


def _converted(name: str, layer: nn.Module, scheme: Scheme) -> QuantizedLinear:
    if not name:
        raise QuantError("the model is itself one linear layer and cannot be replaced in place: use from_linear")
    _refuse_replaced_forward(name, layer)
    try:
        return _with_hooks(quantized_linear(layer, scheme), layer)
    except QuantError as error:
        raise QuantError(f"{name}: {error}") from error


def _refuse_replaced_forward(name: str, layer: nn.Module) -> None:
    """What accelerate's hooks hang on would be lost with the layer, and an offloaded weight is not there."""
    if "forward" in vars(layer):
        raise QuantError(
            f"{name}: its forward was replaced (offloading hooks?): remove the hook (accelerate.hooks."
            "remove_hook_from_submodules) or exclude the layer"
        )


def _with_hooks(new: ModuleT, old: nn.Module) -> ModuleT:
    """`new` with the hooks of `old`: the same dictionaries, so that the handles their owners hold still remove them."""
    for attribute in _HOOKS:
        vars(new)[attribute] = vars(old)[attribute]
    return new


def _swap(model: nn.Module, replacements: Mapping[int, nn.Module]) -> None:
    """Put each replacement wherever the module with its id is referenced, shared references included."""
    for parent in list(model.modules()):
        for child_name, child in parent._modules.items():
            if id(child) in replacements:
                parent._modules[child_name] = replacements[id(child)]
