"""What the names of layers say: of what kind each is, and in which block of the model.

Names are paths of components with dots between them. Models number their blocks, and what stands behind the first
number says what part of a block the layer is: `model.layers.7.mlp.down_proj` is the `mlp.down_proj` of block 7. Further
numbers count copies inside a block and are left out: `model.layers.7.mlp.experts.3.w1` is an `mlp.experts.w1`. A model
with several stacks of blocks, an encoder and a decoder, has each kind once for each of them.
"""

from collections.abc import Iterable
from itertools import takewhile


def layer_kinds(names: Iterable[str]) -> dict[str, str]:
    """Name -> kind, for the layers of one model.

    The kind is what stands behind the first number, without numbers: `self_attn.o_proj`; in front of it, where the
    layers are in several stacks, what tells these apart: `encoder.layers.fc1`. Of a name with nothing behind its number
    it is what stands in front of it, and of a name without numbers all of it.
    """
    parts = {name: _split(name) for name in names}
    fronts = [front for front, behind in parts.values() if behind]
    shared = len(list(takewhile(lambda words: len(set(words)) == 1, zip(*fronts, strict=False))))
    several = len({tuple(front) for front in fronts}) > 1
    kinds = {}
    for name, (front, behind) in parts.items():
        told_apart = front[shared:] if behind and several else []
        kinds[name] = ".".join([*told_apart, *behind] or front) or name
    return kinds


def layer_block(name: str) -> int:
    """The first number in the name, or 0."""
    return next((int(part) for part in name.split(".") if part.isdecimal()), 0)


def _split(name: str) -> tuple[list[str], list[str]]:
    """The components that are no number, in front of the first number and behind it."""
    parts = name.split(".")
    first = next((place for place, part in enumerate(parts) if part.isdecimal()), len(parts))
    return parts[:first], [part for part in parts[first:] if not part.isdecimal()]
