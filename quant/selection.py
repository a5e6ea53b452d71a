"""Which layers to quantize: names and reasons, nothing is changed.

Candidates are the linear layers (`quant.linears`). Patterns are shell globs on the whole dotted name, case-sensitive,
as `fnmatch`: `*` any run of characters, dots included; `?` one; `[ab]` one of a set. So `*.down_proj` and
`model.layers.1.*` match, `layers.1` and `down_proj` match nothing. A pattern that matches no linear layer is an
error, because a misspelt exclusion would otherwise quantize what it was meant to keep.

Left alone by default, whatever the wildcards say:

* the output head: what the model's `get_output_embeddings()` returns, or a layer in whose name is one of `HEAD_NAMES`;
* layers whose weight is shared with another module (tied embeddings): quantizing one end would untie them;
* `linear1` and `linear2` of torch's `TransformerEncoderLayer`, whose fast path reads their weights as floats;
* layers that their architecture keeps in float32 (`_keep_in_fp32_modules` of transformers), as T5 does: it casts
  activations to the dtype of their weight;
* adapters of PEFT, which are there to be trained.

`exclude` adds to these. To quantize the head, name it exactly in `include`, as in `include=["*", "lm_head"]`; a layer
of the other kinds that is named is refused. A module reachable by several names is one layer; a pattern for any of its
names is for it.
"""

import difflib
import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from quant.errors import QuantError
from quant.linears import is_linear

HEAD_NAMES = ("lm_head", "embed_out", "score", "classifier", "qa_outputs")
"""Components of names that are taken for an output head, as in `lm_head`, `classifier.dense`."""


@dataclass(frozen=True)
class Selection:
    """chosen: names of the layers to quantize, in model order; left: name -> why not, for the other linear layers."""

    chosen: tuple[str, ...]
    left: dict[str, str]


def select(
    model: nn.Module, include: Iterable[str] | str | None = None, exclude: Iterable[str] | str | None = None
) -> Selection:
    """Choose the linear layers of `model` to quantize; see the module docstring for the rules.

    Args:
        include: globs of layers to quantize, default all; names without wildcards may name the output head.
        exclude: globs of layers to leave, on top of the default ones.

    Raises:
        QuantError: no linear layers, a pattern that matches none, a tied layer named exactly, nothing left to quantize.
    """
    layers = linear_layers(model)
    names = [name for aliases in layers.values() for name in aliases]
    if not names:
        raise QuantError(f"{type(model).__name__} has no linear layers to quantize (nn.Linear or Conv1D, exact type)")
    included = None if include is None else _patterns(include, names)
    excluded = _patterns(exclude, names)
    heads = output_heads(model)
    fixed = layers_to_leave(model)

    chosen: list[str] = []
    left = unreadable_layers(model)
    for aliases in layers.values():
        reason = _reason_to_leave(aliases, included, excluded, heads, fixed)
        if reason is None:
            chosen.append(aliases[0])
        else:
            left[aliases[0]] = reason
    if not chosen:
        raise QuantError(f"nothing to quantize: {', '.join(f'{name} ({why})' for name, why in left.items())}")
    return Selection(tuple(chosen), left)


def layers_to_leave(model: nn.Module) -> dict[str, str]:
    """Linear layers of `model` that cannot be quantized whoever asks -> the reason."""
    return {**_parts_of_adapters(model), **_kept_in_float32(model), **_read_by_parents(model), **_tied_weights(model)}


def _reason_to_leave(
    aliases: list[str], included: set[str] | None, excluded: set[str], heads: set[str], fixed: dict[str, str]
) -> str | None:
    """Why the layer with these names is left, None if it is to be quantized; fixed: name -> why it cannot be."""
    name = aliases[0]
    if _matches(excluded, aliases):
        return "excluded"
    if included is not None and not _matches(included, aliases):
        return "not included"
    named = included is not None and not included.isdisjoint(aliases)
    if named and name in fixed:
        raise QuantError(f"{name} cannot be quantized ({fixed[name]}): leave it out")
    if name in heads and name not in fixed:
        return None if named else "output head"
    return fixed.get(name)


def output_heads(model: nn.Module) -> set[str]:
    """Names of the linear layers of `model` that are its output head."""
    returned = set()
    for module in model.modules():
        getter = getattr(module, "get_output_embeddings", None)
        if callable(getter):
            returned.add(id(getter()))
    layers = linear_layers(model)
    return {
        aliases[0]
        for key, aliases in layers.items()
        if key in returned or any(not set(HEAD_NAMES).isdisjoint(name.split(".")) for name in aliases)
    }


def linear_layers(model: nn.Module) -> dict[int, list[str]]:
    """id of each linear layer -> all names it is reachable by, in model order."""
    layers: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if is_linear(module):
            layers.setdefault(id(module), []).append(name)
    return layers


def unreadable_layers(model: nn.Module) -> dict[str, str]:
    """Linear layers that cannot be read as a weight and a bias, with the reason they are left."""
    left = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and type(module) is not nn.Linear:
            left[name] = f"subclass of nn.Linear ({type(module).__module__}.{type(module).__qualname__})"
        elif isinstance(module, nn.Linear) and not is_linear(module):
            left[name] = "its weight is no parameter (computed by a hook?)"
    return left


def _read_by_parents(model: nn.Module) -> dict[str, str]:
    """Linear layers whose weight the module that holds them uses without calling them -> the reason to leave them."""
    readers = {
        id(layer): type(module).__name__
        for module in model.modules()
        if isinstance(module, nn.TransformerEncoderLayer)
        for layer in (module.linear1, module.linear2)
    }
    return {
        aliases[0]: f"{readers[key]} reads its weight instead of calling it"
        for key, aliases in linear_layers(model).items()
        if key in readers
    }


def _kept_in_float32(model: nn.Module) -> dict[str, str]:
    """Linear layers that an architecture of transformers keeps in float32 -> the reason to leave them."""
    kept = {}
    for path, module in model.named_modules():
        patterns = {*_words(module, "_keep_in_fp32_modules"), *_words(module, "_keep_in_fp32_modules_strict")}
        if patterns:
            anywhere = re.compile(
                "|".join(rf"(^|\.){pattern.replace('*', '.*')}(\.|$)" for pattern in sorted(patterns))
            )
            for name, child in module.named_modules(prefix=path):
                if is_linear(child) and anywhere.search(f"{name}.weight"):
                    kept[name] = f"{type(module).__name__} keeps it in float32"
    return kept


def _parts_of_adapters(model: nn.Module) -> dict[str, str]:
    """Linear layers that PEFT has put beside others -> the reason to leave them."""
    parts = {}
    for path, module in model.named_modules():
        for adapter in _words(module, "adapter_layer_names"):
            child = getattr(module, adapter, None)
            if isinstance(child, nn.Module):
                names = [name for name, part in child.named_modules(prefix=f"{path}.{adapter}") if is_linear(part)]
                parts.update(dict.fromkeys(names, "part of an adapter"))
    return parts


def _words(module: nn.Module, attribute: str) -> tuple[str, ...]:
    """The strings that `module` lists as `attribute`, if it does."""
    listed = getattr(module, attribute, None)
    return tuple(listed) if isinstance(listed, list | tuple | set) else ()


def _tied_weights(model: nn.Module) -> dict[str, str]:
    """Linear layers whose weight another module holds too -> the reason to leave them, which names that module."""
    holders: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            holders.setdefault(_memory(parameter), []).append(name)
    declared = _declared_ties(model)
    tied = {}
    for name, module in model.named_modules():
        if is_linear(module):
            weight = module.get_parameter("weight")
            others = [other for other in holders[_memory(weight)] if other != name]
            if weight.is_meta and name in declared:
                others.append(declared[name])
            if others:
                tied[name] = f"weight shared with {others[0]}"
    return tied


def _declared_ties(model: nn.Module) -> dict[str, str]:
    """Names of modules that transformers will tie when their weights are loaded -> the other module, both ways."""
    ties = {}
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        for target, source in (vars(module).get("all_tied_weights_keys") or {}).items():
            one, other = (prefix + key.removesuffix(".weight") for key in (target, source))
            ties.update({one: other, other: one})
    return ties


def _memory(parameter: nn.Parameter) -> int:
    """Equal for parameters that start at the same address; by object where there is no memory (meta device, empty)."""
    return parameter.data_ptr() or id(parameter)


def _patterns(patterns: Iterable[str] | str | None, names: list[str]) -> set[str]:
    """The patterns as a set, each known to match at least one of `names`."""
    result = {patterns} if isinstance(patterns, str) else set(patterns or ())
    for pattern in sorted(result):
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            wider = [
                guess for guess in (f"*.{pattern}", f"{pattern}.*", f"*.{pattern}.*") if fnmatch.filter(names, guess)
            ]
            guesses = wider or difflib.get_close_matches(pattern, names, n=1)
            hint = f", did you mean {guesses[0]!r}?" if guesses else f" (layers are named like {names[0]!r})"
            raise QuantError(f"pattern {pattern!r} matches no linear layer{hint}")
    return result


def _matches(patterns: set[str], aliases: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in aliases for pattern in patterns)
