"""Which parameters of a quantized model are floats, and that one bit of one of them is seen by name."""

import copy

import pytest
import torch
from torch import nn

from quant import NF4, quantize
from quant.evaluate.gates import Verdict
from quant.evaluate.parameters import check_parameters, float_digests


def model() -> nn.Module:
    parts = {"up": nn.Linear(64, 64), "norm": nn.LayerNorm(64), "head": nn.Linear(64, 8, bias=False)}
    return nn.Sequential(nn.Embedding(8, 64), nn.ModuleDict(parts)).bfloat16()


def test_they_are_all_but_those_of_quantized_layers() -> None:
    digests = float_digests(quantize(model(), NF4(), exclude=["1.head"]))
    assert list(digests) == ["0.weight", "1.norm.weight", "1.norm.bias", "1.head.weight"]
    assert {len(digest) for digest in digests.values()} == {16}


def test_a_tied_weight_is_under_one_name_and_buffers_and_other_kinds_are_none() -> None:
    class Packed(torch.Tensor):
        pass

    embedding, head = nn.Embedding(8, 4), nn.Linear(4, 8, bias=False)
    head.weight = embedding.weight
    tied = nn.Sequential(embedding, head, nn.BatchNorm1d(8, affine=False))
    tied.register_parameter("codes", nn.Parameter(torch.ones(4, dtype=torch.uint8), requires_grad=False))
    tied.register_parameter("packed", nn.Parameter(torch.ones(4).as_subclass(Packed)))
    tied.register_parameter("elsewhere", nn.Parameter(torch.ones(4, device="meta")))
    assert list(float_digests(tied)) == ["0.weight"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_least_change_of_one_value_is_seen_by_name(dtype: torch.dtype) -> None:
    before = model().to(dtype)
    after = copy.deepcopy(before)
    assert float_digests(after) == float_digests(before)
    weight = after.get_parameter("1.norm.weight").data
    weight[3] = torch.nextafter(weight[3], torch.tensor(9.0, dtype=dtype))
    check = check_parameters(float_digests(before), float_digests(after))
    assert (check.name, check.verdict) == ("floats", Verdict.REGRESSION)
    assert check.text == (
        "float parameters with other bits than recorded: 1.norm.weight: if the change is meant, record it with pytest "
        "--update-thresholds: regression"
    )


def test_the_same_bytes_in_another_shape_or_dtype_are_another_parameter() -> None:
    values = torch.zeros(8)
    digests = [
        float_digests(nn.ParameterDict({"w": nn.Parameter(tensor)}))["w"]
        for tensor in (values, values.view(2, 4), values.view(4, 2), values.half(), values.bfloat16(), values.double())
    ]
    assert len(set(digests)) == 6


def test_a_scalar_and_what_is_not_contiguous_have_digests_too() -> None:
    columns = torch.arange(6.0).view(2, 3).t()
    digests = float_digests(nn.ParameterDict({"s": nn.Parameter(torch.tensor(1.0)), "c": nn.Parameter(columns)}))
    same = float_digests(nn.ParameterDict({"c": nn.Parameter(columns.contiguous())}))
    assert digests["c"] == same["c"]
    assert digests["s"] != digests["c"]


def test_the_recorded_bits_pass_and_one_that_is_new_or_gone_does_not() -> None:
    recorded = {"a": "0", "b": "1"}
    check = check_parameters(recorded, recorded)
    assert (check.name, check.verdict) == ("floats", Verdict.PASS)
    assert check.text == "2 float parameters have the recorded bits: pass"
    for now, name in (({"a": "0"}, "b"), ({**recorded, "c": "2"}, "c"), ({"a": "0", "b": "2"}, "b")):
        assert f"than recorded: {name}: if" in check_parameters(recorded, now).text


def test_only_some_of_many_are_named() -> None:
    text = check_parameters({f"p{index}": "0" for index in range(7)}, {}).text
    assert "recorded: p0, p1, p2, p3, p4, and 2 more: if" in text
    assert "and" not in check_parameters({f"p{index}": "0" for index in range(5)}, {}).text.split(": if")[0]
