"""Which scheme each layer of a model gets: names, schemes and reasons, nothing is changed.

One scheme goes to the layers that patterns choose (`quant.selection`). A plan (`quant.mixed_precision`) names every
linear layer of the model and nothing else, each with a scheme or null: a layer that is misspelt, or that a new release
of an architecture has renamed, would otherwise stay float without a word. What may be named with a scheme is what may
be named in `include`: the output head too; layers whose weight is tied and the like may not.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from quant.errors import QuantError
from quant.mixed_precision import MixedPrecision
from quant.schemes import Scheme
from quant.selection import layers_to_leave, linear_layers, select, unreadable_layers


@dataclass(frozen=True)
class Assignment:
    """schemes: name -> scheme of the layers to quantize, in model order; left: name -> why not, for the other linear
    layers.
    """

    schemes: dict[str, Scheme]
    left: dict[str, str]


def assign(
    model: nn.Module,
    scheme: Scheme | MixedPrecision,
    include: Iterable[str] | str | None = None,
    exclude: Iterable[str] | str | None = None,
) -> Assignment:
    """What `scheme` makes of the linear layers of `model`.

    Args:
        include, exclude: globs, see `quant.selection`; a plan takes none.

    Raises:
        QuantError: what `quant.selection.select` refuses, or a plan that does not fit `model`.
    """
    if not isinstance(scheme, MixedPrecision):
        selection = select(model, include, exclude)
        return Assignment(dict.fromkeys(selection.chosen, scheme), selection.left)
    if include is not None or exclude is not None:
        raise QuantError("a plan names every layer, include and exclude choose them: pass one")
    return _planned(model, scheme)


def _planned(model: nn.Module, plan: MixedPrecision) -> Assignment:
    layers = list(linear_layers(model).values())
    unreadable, fixed = unreadable_layers(model), layers_to_leave(model)
    _check_names(model, plan, [name for aliases in layers for name in aliases], unreadable)
    schemes: dict[str, Scheme] = {}
    left = dict(unreadable)
    for aliases in layers:
        named = {name: plan.layers[name] for name in aliases if name in plan.layers}
        if not named:
            raise QuantError(
                f"the plan leaves out {aliases[0]}, a linear layer of {type(model).__name__}: give it a scheme, or "
                "null to keep it float"
            )
        if len(set(named.values())) > 1:
            raise QuantError(f"{' and '.join(named)} are one layer: give it one scheme in the plan")
        scheme = next(iter(named.values()))
        if scheme is None:
            left[aliases[0]] = "float in the plan"
        elif aliases[0] in fixed:
            raise QuantError(f"{aliases[0]} cannot be quantized ({fixed[aliases[0]]}): give it null in the plan")
        else:
            schemes[aliases[0]] = scheme
    if not schemes:
        raise QuantError("nothing to quantize: every layer of the plan is null")
    return Assignment(schemes, left)


def _check_names(model: nn.Module, plan: MixedPrecision, names: list[str], unreadable: dict[str, str]) -> None:
    """Raises:
    QuantError: a layer of `plan` that is not one of `names`, or that has a scheme where it cannot be quantized.
    """
    for name, scheme in plan.layers.items():
        if name in unreadable and scheme is not None:
            raise QuantError(f"{name} cannot be quantized ({unreadable[name]}): give it null in the plan")
    known = {*names, *unreadable}
    for name in plan.layers:
        if name not in known:
            nearest = difflib.get_close_matches(name, names, n=1, cutoff=0)
            hint = f", did you mean {nearest[0]!r}?" if nearest else ""
            raise QuantError(f"{type(model).__name__} has no linear layer {name!r} that the plan names{hint}")
