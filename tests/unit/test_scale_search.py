"""Searched scales are the oracle's to the bit, whatever the threads, groups, strides and dtypes; they are kept at the
edges of float32, and gain what they are said to.
"""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from quant import FP4, INT4, NF4, W8A16, QuantError, quantize_tensor
from quant.numerics import blockwise, int8, scale_search
from quant.schemes import Blockwise, Scheme
from tests import oracle
from tests.flushing import flushing_subnormals
from tests.strategies import LAYOUTS, bits, cast, normal, scheme_id

SEARCHED: tuple[Scheme, ...] = (
    W8A16(scale="mse"),
    NF4(32, scale="mse"),
    NF4(64, True, scale="mse"),
    FP4(32, scale="mse"),
    INT4(32, scale="mse"),
)
each_scheme = pytest.mark.parametrize("scheme", SEARCHED, ids=scheme_id)
each_plain_scheme = pytest.mark.parametrize(
    "scheme", [s for s in SEARCHED if not (isinstance(s, Blockwise) and s.double_quant)], ids=scheme_id
)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """A test may change the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def stored(weight: Tensor, scheme: Scheme) -> dict[str, list[int]]:
    return {name: bits(part.reshape(-1)) for name, part in quantize_tensor(weight, scheme).stored.items()}


def plain_scale(values: list[float], scheme: Scheme) -> float:
    largest = max(map(abs, values))
    if isinstance(scheme, Blockwise):
        return largest
    return oracle.f32(largest / 127)


def searched_by_the_oracle(values: list[float], scheme: Scheme) -> float:
    def nearest(value: float, scale: float) -> float:
        if not isinstance(scheme, Blockwise):
            return float(max(-127, min(127, round(oracle.f32(value / scale)))))
        full = len(values) == scheme.block_size
        quotient = oracle.f32(value * oracle.f32(1 / scale)) if full else oracle.f32(value / scale)
        levels = oracle.LEVELS[scheme.name]
        return levels[oracle.nearest_code(max(-1.0, min(1.0, quotient)), levels)]

    factors = [step / 20 for step in range(10, 24)] if isinstance(scheme, Blockwise) else []
    factors = factors or [step / 200 for step in range(196, 207)]
    return oracle.searched_scale(values, plain_scale(values, scheme), nearest, factors)


@each_plain_scheme
def test_scales_are_the_oracle_s(scheme: Scheme) -> None:
    """Full blocks and a short one of 21, in rows of 81; noise, an outlier, few values, and tiny and huge ones."""
    noise = normal((5, 81), seed=31)
    noise[1, 5] = 9.0
    noise[2] = noise[2].sign() * 0.3
    weight = noise * torch.tensor([1.0, 0.02, 1.0, 1e-30, 1e30])[:, None]
    values: list[float] = weight.reshape(-1).tolist()
    size = scheme.block_size if isinstance(scheme, Blockwise) else 81
    rows = [values[start : start + size] for start in range(0, len(values), size)]
    expected = [searched_by_the_oracle(row, scheme) for row in rows]
    assert quantize_tensor(weight, scheme).scales.tolist() == expected
    moved = [new != plain_scale(row, scheme) for row, new in zip(rows, expected, strict=True)]
    assert sum(moved) >= len(rows) // 2
    assert moved[-1]  # the short one


@each_plain_scheme
def test_codes_are_the_nearest_ones_under_the_stored_scale(scheme: Scheme) -> None:
    weight = normal((3, 96), seed=32)
    quantized = quantize_tensor(weight, scheme)
    if isinstance(scheme, Blockwise):
        levels = torch.tensor(oracle.LEVELS[scheme.name], dtype=torch.float64)
        levels = levels[levels.abs() <= 1]
        scales = quantized.scales.repeat_interleave(scheme.block_size)[: weight.numel()].view(weight.shape)
    else:
        levels = torch.arange(-127, 128, dtype=torch.float64)
        scales = quantized.scales[:, None].expand(weight.shape)
    exact = weight.double()
    distance = (exact[..., None] - levels * scales.double()[..., None]).abs().amin(dim=-1)
    error = (quantized.dequantize().double() - exact).abs()
    # As in tests/property/test_blockwise_round_trip.py: 6 roundings, of up to the scale times the largest level.
    assert (error <= distance + 6 * oracle.UNIT_ROUNDOFF * scales.double() * levels.abs().max()).all()


def test_a_refined_scale_stays_between_the_factors() -> None:
    """One of 64 weights is 1, those beside it ask for a scale below the least factor."""
    weight = torch.full((1, 64), 0.1)
    weight[0, 7] = 1.0
    rounded = scale_search.search_scales(weight, torch.ones(1), lambda values, _: torch.ones_like(values), (0.5, 1.0))
    assert rounded.tolist() == [0.5]
    free = scale_search.search_scales(weight, torch.ones(1), lambda values, _: torch.ones_like(values), (0.1, 1.0))
    assert free.item() == pytest.approx((63 * 0.1 + 1) / 64)


@pytest.mark.parametrize(("exponent", "taken"), [(-22, False), (-16, True)])
def test_what_rounding_may_explain_is_no_gain(exponent: int, taken: bool) -> None:
    """A weight of 1.5 and the level 1: over the scale 1 + d its error of 0.5 is less by d, the square by 4 d of itself,
    which has to be more than 2^-18.
    """
    factors = (1.0, 1 + 2.0**exponent)
    scale = scale_search.search_scales(torch.tensor([[1.5]]), torch.ones(1), lambda w, _: torch.ones_like(w), factors)
    assert scale.item() == factors[taken]


@each_scheme
def test_threads_groups_and_chunks_change_nothing(scheme: Scheme, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = normal((9, 161), seed=33)
    torch.set_num_threads(1)
    expected = stored(weight, scheme)
    torch.set_num_threads(3)
    assert stored(weight, scheme) == expected
    for elements, least in ((1, 1), (700, 1)):
        monkeypatch.setattr(scale_search, "GROUP_ELEMENTS", elements)
        monkeypatch.setattr(scale_search, "LEAST_GROUP", least)
        assert stored(weight, scheme) == expected
    monkeypatch.setattr(blockwise, "CHUNK_ELEMENTS", 64)
    monkeypatch.setattr(int8, "CHUNK_ELEMENTS", 161 * 3)
    assert stored(weight, scheme) == expected


@each_plain_scheme
def test_a_part_has_the_bits_that_it_has_in_the_whole(scheme: Scheme) -> None:
    """Rows of three blocks, so that any split between rows is one between blocks."""
    weight = normal((9, 96), seed=34)
    whole = quantize_tensor(weight, scheme)
    parts = [quantize_tensor(part, scheme) for part in torch.split(weight, [1, 5, 3])]
    assert bits(whole.codes.reshape(-1)) == [byte for part in parts for byte in bits(part.codes)]
    assert bits(whole.scales) == [byte for part in parts for byte in bits(part.scales)]


@each_scheme
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_change_nothing(scheme: Scheme, layout: str) -> None:
    view = LAYOUTS[layout](normal((6, 96), seed=35))
    before = bits(view)
    assert stored(view, scheme) == stored(view.clone(memory_format=torch.contiguous_format), scheme)
    assert bits(view) == before


@each_scheme
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_every_dtype_is_searched_as_its_float32_copy(scheme: Scheme, dtype: torch.dtype) -> None:
    weight = normal((6, 97), seed=36).to(dtype)
    assert stored(weight, scheme) == stored(weight.float(), scheme)


@each_scheme
def test_flushing_subnormals_changes_nothing(scheme: Scheme) -> None:
    """Of weights as models have them; tests/unit/test_flushed_subnormals.py has the others."""
    weight = normal((8, 96), seed=37)
    expected = stored(weight, scheme)
    with flushing_subnormals():
        assert stored(weight, scheme) == expected


@each_plain_scheme
def test_scales_beyond_what_is_searched_are_kept(scheme: Scheme) -> None:
    """Zeros, subnormals, 1e-38, and just beyond 2^+-115 on either side; just within they are searched."""
    unsearched: Scheme = type(scheme)(**{**scheme.options, "scale": "absmax"})
    levels = 1.0 if isinstance(scheme, Blockwise) else 127.0
    noise = normal((97,), seed=38).clamp(-2, 2) / 2
    noise[0] = 1.0
    beyond = torch.tensor([0.0, 2.0**-149, 1e-39, 1e-38, 2.0**-115 * (1 - 2.0**-20) * levels, 2.0**120 * levels])
    rows = cast((beyond[:, None] * noise).tolist(), torch.float32)
    for row in rows:
        assert stored(row[None], scheme) == stored(row[None], unsearched)
    for scale in (2.0**-115, 2.0**115):
        row = (noise * scale * levels)[None]
        assert stored(row, scheme) != stored(row, unsearched)


@each_plain_scheme
@pytest.mark.parametrize("exponent", [-90, -1, 90])
def test_a_power_of_two_scales_the_scales_and_leaves_the_codes(scheme: Scheme, exponent: int) -> None:
    weight = normal((3, 99), seed=40)
    one, other = quantize_tensor(weight, scheme), quantize_tensor(weight * 2.0**exponent, scheme)
    assert bits(other.codes) == bits(one.codes)
    assert torch.equal(other.scales, one.scales * 2.0**exponent)


@each_scheme
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("index", [0, 96])
def test_what_is_not_finite_is_refused(scheme: Scheme, value: float, index: int) -> None:
    weight = normal((1, 97), seed=39)
    weight[0, index] = value
    with pytest.raises(QuantError, match=r"weight of shape \[1, 97\] has 1 NaN or infinite values"):
        quantize_tensor(weight, scheme)


@each_scheme
@pytest.mark.parametrize("shape", [(1, 1), (0, 4), (4, 0)], ids=str)
def test_one_weight_and_none(scheme: Scheme, shape: tuple[int, int]) -> None:
    """One weight is exact with its own absmax, which so is kept."""
    unsearched: Scheme = type(scheme)(**{**scheme.options, "scale": "absmax"})
    weight = torch.full(shape, -0.7)
    assert stored(weight, scheme) == stored(weight, unsearched)
