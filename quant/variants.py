"""The rows of a comparison: each name on the command line, and how a model of that kind is made.

`baseline` is the model as it is; `w8a16`, `nf4`, `nf4-dq`, `fp4`, `int4` quantize all linear layers but the output
head; `w8a16-full` the head too; `bnb-*` are bitsandbytes' formats, quantized while transformers loads the model.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from quant.convert import conversion_report, quantize
from quant.errors import QuantError
from quant.integrations import bitsandbytes
from quant.integrations.transformers import build_on_meta, load_config, load_model, on_load
from quant.linears import is_linear
from quant.modules import QuantizedLinear
from quant.schemes import SCHEMES, Blockwise, Scale, Scheme
from quant.selection import output_heads

BASELINE = "baseline"
VARIANTS = (BASELINE, "w8a16", "w8a16-full", "nf4", "nf4-dq", "fp4", "int4", *bitsandbytes.NAMES)


@dataclass(frozen=True)
class LoadedModel:
    """A model of one variant; quantized_layers of linear_layers are quantized."""

    model: Any
    quantized_layers: int
    linear_layers: int


def check_variants(names: Sequence[str], allowed: Sequence[str] = VARIANTS) -> None:
    """Raises:
    QuantError: a name that is not one of `allowed`, or none at all.
    """
    unknown = [name for name in names if name not in allowed]
    if unknown or not names:
        nearest = [near for name in unknown for near in difflib.get_close_matches(name, allowed, n=1)]
        hint = f"; did you mean {', '.join(dict.fromkeys(nearest))}?" if nearest else ""
        told = ", ".join(map(repr, unknown)) or "(none)"
        raise QuantError(f"unknown scheme {told}: use one of {', '.join(allowed)}{hint}")


def check_possible(
    names: Sequence[str],
    folder: Path,
    dtype: torch.dtype,
    block_size: int = 64,
    trust_remote_code: bool = False,
    scale: str = "absmax",
) -> None:
    """Check that each of `names` can be made of the model in `folder`, on the meta device and so in no time.

    Raises:
        QuantError: one cannot (a tied head, no linear layers, bitsandbytes missing); the message says why.
    """
    config = load_config(folder, trust_remote_code)
    for name in names:
        if name in bitsandbytes.NAMES:
            bitsandbytes.quantization_config(name, dtype)
        elif scheme_of(name) is not None:
            try:
                model = build_on_meta(config, dtype, trust_remote_code)
            except QuantError:  # some code of a checkpoint cannot run without values: loading will tell
                continue
            quantize_as(name, model, block_size, scale)


def scheme_of(name: str, block_size: int = 64, scale: str = "absmax") -> Scheme | None:
    """The scheme of a variant of ours, None for the baseline and bitsandbytes' formats.

    Raises:
        QuantError: a block size or a scale that is not allowed.
    """
    scheme = SCHEMES.get(name.removesuffix("-full"))
    if scheme is None:
        return None
    searched = replace(scheme, scale=cast("Scale", scale))  # which refuses others
    return replace(searched, block_size=block_size) if isinstance(searched, Blockwise) else searched


OURS = tuple(name for name in VARIANTS if scheme_of(name) is not None)
"""Those that this library applies itself, to a skeleton or to files."""


def quantize_as(name: str, model: Any, block_size: int = 64, scale: str = "absmax") -> dict[str, str]:
    """Quantize `model` in place as one of our variants; returns the linear layers that were left: name -> reason.

    Raises:
        QuantError: see `quant.quantize`; `w8a16-full` also where the model has no head of its own to quantize.
    """
    scheme = scheme_of(name, block_size, scale)
    assert scheme is not None
    include = included_by(name, model)
    try:
        return conversion_report(quantize(model, scheme, include=include)).left
    except QuantError as error:
        other = f", or use {name.removesuffix('-full')}" if include else ""
        raise QuantError(f"{name}: {error}{other}") from error


def included_by(name: str, model: Any, include: Sequence[str] = ()) -> list[str] | None:
    """The `include` of `quant.quantize` for one of our variants: `include` (none is all layers), and the heads of
    `model` for `-full`.

    Raises:
        QuantError: `-full` where the model has no head.
    """
    if not name.endswith("-full"):
        return list(include) or None
    heads = sorted(output_heads(model))
    if not heads:
        raise QuantError(
            f"{name}: {type(model).__name__} has no output head to quantize, use {name.removesuffix('-full')}"
        )
    return [*(include or ("*",)), *heads]


def load_variant(
    name: str,
    folder: Path,
    dtype: torch.dtype,
    device: str = "cpu",
    block_size: int = 64,
    trust_remote_code: bool = False,
    scale: str = "absmax",
) -> LoadedModel:
    """Load the model in `folder` as variant `name` (one of `VARIANTS`).

    Raises:
        QuantError: it cannot be loaded or quantized that way; the message says why.
    """
    scheme = scheme_of(name, block_size, scale)
    config = None
    if name in bitsandbytes.NAMES:
        config = bitsandbytes.quantization_config(name, dtype)
    elif scheme is not None:
        skeleton = build_on_meta(load_config(folder, trust_remote_code), dtype, trust_remote_code)
        config = on_load(scheme, included_by(name, skeleton))
    try:
        model = load_model(folder, dtype, device, trust_remote_code, config)
    except QuantError as error:
        raise QuantError(f"{name}: {error}") from error
    quantized, linear = count_layers(model)
    if name != BASELINE and not quantized:
        raise QuantError(f"{name}: nothing was converted, {type(model).__name__} has no layers for it: leave it out")
    return LoadedModel(model, quantized, linear)


def count_layers(model: torch.nn.Module) -> tuple[int, int]:
    """(quantized linear layers, all linear layers), bitsandbytes' included."""
    modules = list(model.modules())
    quantized = sum(isinstance(m, QuantizedLinear) or bitsandbytes.is_quantized_linear(m) for m in modules)
    return quantized, quantized + sum(is_linear(m) for m in modules)
