"""Kinds and blocks of layers, from their names."""

import pytest

from quant.layer_names import layer_block, layer_kinds


@pytest.mark.parametrize(
    ("name", "kind", "block"),
    [
        ("model.layers.0.self_attn.o_proj", "self_attn.o_proj", 0),
        ("model.layers.17.mlp.down_proj", "mlp.down_proj", 17),
        ("model.layers.4.mlp.experts.63.w1", "mlp.experts.w1", 4),
        ("encoder.block.2.layer.1.SelfAttention.q", "layer.SelfAttention.q", 2),
        ("h.11.c_attn2", "c_attn2", 11),
        ("lm_head", "lm_head", 0),
        ("score.out", "score.out", 0),
        ("layers.3", "layers", 3),
        ("3", "3", 3),
        ("1.2", "1.2", 1),
        ("mlp.layer_2.up", "mlp.layer_2.up", 0),
    ],
)
def test_a_kind_is_what_stands_behind_the_first_number_without_numbers(name: str, kind: str, block: int) -> None:
    assert (layer_kinds([name]), layer_block(name)) == ({name: kind}, block)


def test_several_stacks_of_blocks_are_told_apart() -> None:
    names = [f"model.{stack}.layers.{block}.fc1" for stack in ("encoder", "decoder") for block in range(2)]
    kinds = layer_kinds([*names, "model.projections.0", "lm_head"])
    assert list(kinds.values()) == [
        *("encoder.layers.fc1",) * 2,
        *("decoder.layers.fc1",) * 2,
        "model.projections",
        "lm_head",
    ]


def test_one_stack_needs_no_name() -> None:
    names = ["model.layers.0.mlp.up", "model.layers.1.mlp.up", "model.layers.1.norms.0", "lm_head", "adapters.0"]
    assert list(layer_kinds(names).values()) == ["mlp.up", "mlp.up", "norms", "lm_head", "adapters"]
