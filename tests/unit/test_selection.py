"""Which layers are chosen and why the others are left: patterns, the head, tied weights, aliases, subclasses."""

import pytest
from torch import nn
from torch.nn.utils import spectral_norm

from quant import QuantError
from quant.selection import HEAD_NAMES, output_heads, select
from tests.models import Layers, Shared, tiny_gpt2, tiny_phi3

PHI3_LAYERS = tuple(
    f"model.layers.{layer}.{name}"
    for layer in range(2)
    for name in ("self_attn.o_proj", "self_attn.qkv_proj", "mlp.gate_up_proj", "mlp.down_proj")
)


def names(*indices: int) -> tuple[str, ...]:
    return tuple(f"layers.{index}" for index in indices)


def test_by_default_everything_but_the_head_is_chosen_in_model_order() -> None:
    selection = select(Layers(12))
    assert selection.chosen == names(*range(12))
    assert selection.left == {"lm_head": "output head"}


@pytest.mark.parametrize(
    "pattern", ["layers.1", ["layers.1"], ("layers.1",), {"layers.1"}], ids=["str", "list", "tuple", "set"]
)
def test_a_name_means_that_layer_and_not_those_that_begin_like_it(pattern: list[str] | str) -> None:
    selection = select(Layers(12), exclude=pattern)
    assert selection.chosen == names(0, *range(2, 12))
    assert selection.left == {"layers.1": "excluded", "lm_head": "output head"}
    assert select(Layers(12), include=pattern).chosen == names(1)


@pytest.mark.parametrize(
    ("pattern", "chosen"),
    [
        ("layers.*", range(12)),
        ("layers.?", range(10)),
        ("layers.1*", (1, 10, 11)),
        ("layers.[13]", (1, 3)),
        ("*.1", (1,)),
        ("*[!2]", (0, 1, *range(3, 12))),
    ],
)
def test_globs_match_the_whole_dotted_name(pattern: str, chosen: tuple[int, ...]) -> None:
    assert select(Layers(12), include=pattern).chosen == names(*chosen)


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("v_proj", "layers are named like"),
        ("qkv_proj", r"did you mean '\*\.qkv_proj'"),
        ("model.layers.1", r"did you mean 'model\.layers\.1\.\*'"),
        ("layers.1", r"did you mean '\*\.layers\.1\.\*'"),
        ("model.layers.0.mlp.down_porj", r"did you mean 'model\.layers\.0\.mlp\.down_proj'"),
        ("MODEL.*", "layers are named like"),
        ("model.embed_tokens", "matches no linear layer"),
        ("", "matches no linear layer"),
    ],
)
@pytest.mark.parametrize("option", ["include", "exclude"])
def test_a_pattern_that_matches_nothing_is_refused_with_a_hint(option: str, pattern: str, hint: str) -> None:
    with pytest.raises(QuantError, match=f"pattern {pattern!r} matches no linear layer|{hint}") as caught:
        select(tiny_phi3(), **{option: ["*", pattern]})
    assert repr(pattern) in str(caught.value)
    caught.match(hint)


@pytest.mark.parametrize("exclude", [None, [], ["layers.0"], ["lm_head"], "lm_head"], ids=str)
def test_excluding_adds_to_the_safe_default(exclude: list[str] | str | None) -> None:
    selection = select(Layers(3), exclude=exclude)
    assert "lm_head" in selection.left
    assert ("layers.0" in selection.left) is (exclude == ["layers.0"])
    assert set(selection.chosen) | set(selection.left) == {*names(0, 1, 2), "lm_head"}


def test_only_its_exact_name_includes_the_head() -> None:
    assert "lm_head" in select(Layers(), include="*").left
    assert "lm_head" in select(Layers(), include=["*", "lm_*"]).left
    assert select(Layers(), include=["*", "lm_head"]).chosen == (*names(0, 1), "lm_head")
    assert select(Layers(), include="lm_head").chosen == ("lm_head",)


def test_exclude_wins_over_include() -> None:
    selection = select(Layers(), include=["*", "lm_head"], exclude=["lm_head", "layers.0"])
    assert selection.chosen == names(1)
    assert selection.left == {"layers.0": "excluded", "lm_head": "excluded"}


def test_what_is_not_included_is_left_with_that_reason() -> None:
    assert select(Layers(), include="layers.0").left == {"layers.1": "not included", "lm_head": "not included"}


@pytest.mark.parametrize("head", HEAD_NAMES)
def test_a_head_is_known_by_name_wherever_it_hangs(head: str) -> None:
    inner = nn.ModuleDict({"body": nn.Linear(2, 2), head: nn.Linear(2, 2)})
    assert select(nn.ModuleDict({"model": inner})).left == {f"model.{head}": "output head"}
    assert output_heads(inner) == {head}


def test_a_head_is_known_by_get_output_embeddings_whatever_its_name() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.to_vocabulary = nn.Linear(2, 2), nn.Linear(2, 4)

        def get_output_embeddings(self) -> nn.Module:
            return self.to_vocabulary

    assert select(nn.ModuleDict({"wrapped": Named()})).left == {"wrapped.to_vocabulary": "output head"}


def test_tied_weights_are_left_with_the_name_of_the_other_holder() -> None:
    selection = select(Shared())
    assert selection.chosen == ("first",)
    assert selection.left == {"tied": "weight shared with embedding"}


def test_two_linear_layers_with_one_weight_are_both_left() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    model[2].weight = model[0].weight
    assert select(model).left == {"0": "weight shared with 2", "2": "weight shared with 0"}


def test_equal_but_separate_weights_are_not_tied() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].load_state_dict(model[0].state_dict())
    assert select(model).chosen == ("0", "1")
    assert select(model.to("meta")).chosen == ("0", "1")


def test_naming_a_tied_layer_is_refused() -> None:
    with pytest.raises(QuantError, match=r"tied cannot be quantized \(weight shared with embedding\): leave it out"):
        select(Shared(), include=["*", "tied"])


@pytest.mark.parametrize("name", ["first", "second"])
def test_any_name_of_a_shared_layer_selects_it_once(name: str) -> None:
    assert select(Shared(), include=name).chosen == ("first",)
    with pytest.raises(QuantError, match=r"nothing to quantize: .*first \(excluded\)"):
        select(Shared(), exclude=name)


def test_a_head_with_another_name_before_it_is_a_head() -> None:
    head = nn.Linear(2, 2)
    model = nn.ModuleDict({"body": nn.Linear(2, 2), "alias": head, "lm_head": head})
    assert select(model).chosen == ("body",)


def test_subclasses_are_left_with_their_type() -> None:
    model = nn.ModuleDict({"body": nn.Linear(4, 4), "attention": nn.MultiheadAttention(4, 1)})
    reason = "subclass of nn.Linear (torch.nn.modules.linear.NonDynamicallyQuantizableLinear)"
    assert select(model).left == {"attention.out_proj": reason}


def test_layers_that_an_encoder_reads_past_are_left_and_cannot_be_named() -> None:
    model = nn.ModuleDict({"body": nn.Linear(4, 4), "encoder": nn.TransformerEncoderLayer(4, 1, 4)})
    reason = "TransformerEncoderLayer reads its weight instead of calling it"
    selection = select(model)
    assert selection.chosen == ("body",)
    assert (selection.left["encoder.linear1"], selection.left["encoder.linear2"]) == (reason, reason)
    with pytest.raises(QuantError, match=r"encoder\.linear1 cannot be quantized \(TransformerEncoderLayer reads"):
        select(model, include=["*", "encoder.linear1"])
    decoder = nn.ModuleDict({"decoder": nn.TransformerDecoderLayer(4, 1, 4)})
    assert select(decoder).chosen == ("decoder.linear1", "decoder.linear2")


def test_a_layer_whose_weight_is_computed_is_left() -> None:
    selection = select(nn.Sequential(spectral_norm(nn.Linear(4, 4)), nn.Linear(4, 4)))
    assert selection.chosen == ("1",)
    assert selection.left == {"0": "its weight is no parameter (computed by a hook?)"}


@pytest.mark.parametrize("model", [nn.Sequential(nn.ReLU()), nn.Embedding(2, 2)], ids=["no weights", "no linear"])
def test_a_model_without_linear_layers_is_refused(model: nn.Module) -> None:
    with pytest.raises(QuantError, match=f"{type(model).__name__} has no linear layers to quantize"):
        select(model)


def test_nothing_left_to_quantize_is_refused_with_the_reasons() -> None:
    with pytest.raises(QuantError, match=r"nothing to quantize: layers.0 \(excluded\), .*lm_head \(output head\)"):
        select(Layers(2), exclude="layers.*")
    with pytest.raises(QuantError, match=r"nothing to quantize: layers.0 \(not included\)"):
        select(Layers(2), include=[])


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_phi3_leaves_its_head_and_only_that(tied: bool) -> None:
    selection = select(tiny_phi3(tied))
    assert set(selection.chosen) == set(PHI3_LAYERS)
    reason = "weight shared with model.embed_tokens" if tied else "output head"
    assert selection.left == {"lm_head": reason}


def test_gpt2_s_transposed_layers_are_chosen() -> None:
    chosen = select(tiny_gpt2()).chosen
    assert len(chosen) == 8
    assert {name.partition("h.")[2][2:] for name in chosen} == {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"}
