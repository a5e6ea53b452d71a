"""What the name of a layer says: its kind, and the block of the model that it is in.

Names are paths of components with dots between them. Models number their blocks, and what stands behind the first
number says what part of a block the layer is: `model.layers.7.mlp.down_proj` is the `mlp.down_proj` of block 7. Further
numbers count copies inside a block and are left out: `model.layers.7.mlp.experts.3.w1` is an `mlp.experts.w1`.
"""


def layer_kind(name: str) -> str:
    """The components behind the first number, without numbers: `self_attn.o_proj`. Where nothing stands there, those in
    front of it; of a name without numbers all of it.
    """
    words, behind = _split(name)
    return ".".join(behind or words) or name


def layer_block(name: str) -> int:
    """The first number in the name, or 0."""
    return next((int(part) for part in name.split(".") if part.isdecimal()), 0)


def _split(name: str) -> tuple[list[str], list[str]]:
    """The components that are no number, in front of the first number and behind it."""
    parts = name.split(".")
    first = next((place for place, part in enumerate(parts) if part.isdecimal()), len(parts))
    return parts[:first], [part for part in parts[first:] if not part.isdecimal()]
