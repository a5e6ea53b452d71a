"""The absmax in 8 bits: codes and scales against the oracle, the error bound, and degenerate blocks."""

import math

import pytest
import torch
from torch import Tensor

from quant.codebooks import DYNAMIC8_LEVELS
from quant.numerics.double_quantization import dequantize_absmax, quantize_absmax
from tests import oracle
from tests.strategies import FLOAT32_MAX, bits, generator, normal

COUNTS = (1, 2, 3, 255, 256, 257, 512, 700)
GRID_STEP = 2 / 65535


def typical_absmax(count: int, seed: int = 0) -> Tensor:
    """The absmax values of blocks of 64 normal weights."""
    return normal((count, 64), seed, std=0.02).abs().amax(dim=1)


def assert_equals_oracle(absmax: Tensor) -> None:
    codes, scales, offset = quantize_absmax(absmax)
    expected_codes, expected_scales = oracle.quantize_absmax(absmax.tolist(), offset.item(), DYNAMIC8_LEVELS)
    assert codes.tolist() == expected_codes
    assert scales.tolist() == expected_scales
    back = dequantize_absmax(codes, scales, offset)
    assert back.tolist() == oracle.dequantize_absmax(expected_codes, expected_scales, offset.item(), DYNAMIC8_LEVELS)


@pytest.mark.parametrize("count", COUNTS)
def test_codes_scales_and_values_equal_the_oracle(count: int) -> None:
    assert_equals_oracle(typical_absmax(count, seed=count))


def test_widely_spread_values_equal_the_oracle() -> None:
    """Fourteen decades in one group: most codes are the small ones around zero."""
    exponents = torch.rand(600, generator=generator(1), dtype=torch.float64) * 14 - 10
    assert_equals_oracle((10**exponents).float())


@pytest.mark.parametrize("count", COUNTS)
def test_types_and_sizes_are_one_byte_per_value_and_one_scale_per_256(count: int) -> None:
    codes, scales, offset = quantize_absmax(typical_absmax(count))
    assert (codes.dtype, scales.dtype, offset.dtype) == (torch.uint8, torch.float32, torch.float32)
    assert (codes.shape, scales.shape, offset.shape) == ((count,), (math.ceil(count / 256),), ())


@pytest.mark.parametrize("count", COUNTS)
def test_offset_is_the_mean_within_the_error_of_a_float32_sum(count: int) -> None:
    absmax = typical_absmax(count)
    _, _, offset = quantize_absmax(absmax)
    exact = math.fsum(absmax.tolist()) / count
    assert abs(offset.item() - exact) <= (count + 1) * oracle.UNIT_ROUNDOFF * exact


def test_evenly_spread_values_are_as_wrong_as_256_levels_must_make_them() -> None:
    """Four groups of 256 evenly spaced values on [1, 2]: less the mean and over the scale of 1/2 they are 0.0078 apart.

    The levels between 0.1 and 1 are 0.0141 apart. A value within a quarter of that gap from a level has a neighbour
    that is not, so each group has an error of at least a quarter of the gap; an absmax that was stored in float32 would
    have none.
    """
    absmax = 1 + torch.arange(1024).view(256, 4).t().reshape(-1) / 1024
    codes, scales, offset = quantize_absmax(absmax)
    error = (dequantize_absmax(codes, scales, offset) - absmax).abs().view(4, 256).amax(dim=1)
    assert (error >= scales * 0.9 / 64 / 4).all()


@pytest.mark.parametrize("value", [0.0, 1.0, 0.375, 2.0**-140, 2.0**110])
def test_equal_values_have_scale_zero_and_come_back_exactly(value: float) -> None:
    """At most two significant bits, so that every partial sum and the mean are exact."""
    absmax = torch.full((512,), value)
    codes, scales, offset = quantize_absmax(absmax)
    assert codes.tolist() == [0] * 512
    assert scales.tolist() == [0.0, 0.0]
    assert bits(dequantize_absmax(codes, scales, offset)) == bits(absmax)


def test_a_group_without_spread_does_not_disturb_the_others() -> None:
    spread = torch.tensor([1.0, 3.0] * 128)
    assert_equals_oracle(torch.cat([spread, torch.full((256,), 2.0), spread]))


def test_a_single_outlier_sets_the_scale_of_its_group_only() -> None:
    absmax = typical_absmax(512, seed=6)
    absmax[300] = 100.0
    assert_equals_oracle(absmax)
    _, scales, _ = quantize_absmax(absmax)
    assert scales[0] < 1 < scales[1]


def test_subnormal_differences_stay_finite() -> None:
    codes, scales, offset = quantize_absmax(torch.tensor([2.0**-149, 2.0**-140, 0.0, 2.0**-130]))
    assert dequantize_absmax(codes, scales, offset).isfinite().all()


def test_quotients_of_a_subnormal_scale_are_infinite_and_get_the_codes_at_the_ends() -> None:
    assert quantize_absmax(torch.tensor([0.0, 1e-40]))[0].tolist() == [0, 255]


@pytest.mark.parametrize("unit", [1.0, 2.0**-131])
def test_codes_do_not_depend_on_how_small_the_values_are(unit: float) -> None:
    """The second scale is subnormal and its reciprocal infinite, which times zero, the quotient of the mean, is NaN.

    Zero lies between two points of the grid; the upper one counts, and the level nearest to that is no zero.
    """
    assert quantize_absmax(torch.tensor([unit, 2 * unit, 3 * unit]))[0].tolist() == [0, 131, 255]


def test_huge_values_stay_finite() -> None:
    codes, scales, offset = quantize_absmax(torch.tensor([FLOAT32_MAX / 2] * 3))
    assert dequantize_absmax(codes, scales, offset).isfinite().all()


def test_a_level_beyond_the_largest_float_gives_way_to_the_next_lower_one() -> None:
    """Two thirds of the scale, which is 0.6 of the largest value, lie nearest to a level above."""
    absmax = torch.tensor([0.0, 0.0, 3.397e38, 3.397e38, 3.397e38])
    assert_equals_oracle(absmax)
    codes, scales, offset = quantize_absmax(absmax)
    back = dequantize_absmax(codes, scales, offset)
    assert back.isfinite().all()
    assert dequantize_absmax(codes + torch.tensor([0, 0, 1, 1, 1]), scales, offset)[2:].isinf().all()
    assert (back - absmax).abs().max() <= scales * 0.9 / 64


def test_what_is_not_finite_ends_nevertheless() -> None:
    """Weights are refused before; absmax values of another source must not make a loop without end."""
    codes, _, _ = quantize_absmax(torch.tensor([1.0, math.inf]))
    assert codes.shape == (2,)


def test_no_blocks_give_no_codes_and_offset_zero() -> None:
    codes, scales, offset = quantize_absmax(torch.empty(0))
    assert (codes.numel(), scales.numel(), offset.item()) == (0, 0, 0.0)
    assert dequantize_absmax(codes, scales, offset).numel() == 0


def test_whole_groups_have_the_codes_of_all_with_the_offset_of_all() -> None:
    absmax = typical_absmax(3 * 256 + 10)
    codes, scales, offset = quantize_absmax(absmax)
    parts = [quantize_absmax(absmax[start : start + 256], offset) for start in range(0, len(absmax), 256)]
    assert torch.cat([part for part, _, _ in parts]).tolist() == codes.tolist()
    assert torch.cat([part for _, part, _ in parts]).tolist() == scales.tolist()
    assert all(part is offset for _, _, part in parts)


def test_nothing_is_changed_and_the_result_repeats() -> None:
    absmax = typical_absmax(300)
    before = bits(absmax)
    first = quantize_absmax(absmax)
    stored = [bits(part.reshape(-1)) for part in first]
    dequantize_absmax(*first)
    assert bits(absmax) == before
    assert [bits(part.reshape(-1)) for part in first] == stored
    assert [bits(part.reshape(-1)) for part in quantize_absmax(absmax)] == stored


def reachable_codes() -> Tensor:
    """The codes that some point of the grid is nearest to, ascending: levels finer than the grid are never used."""
    levels = torch.tensor(DYNAMIC8_LEVELS, dtype=torch.float64)
    grid = torch.arange(65536, dtype=torch.float64) * GRID_STEP - 1
    return torch.tensor(sorted(set(torch.bucketize(grid, (levels[:-1] + levels[1:]) / 2).tolist())))


@pytest.mark.parametrize("seed", range(20))
def test_another_order_of_summation_moves_a_code_by_one_level_at_most(seed: int) -> None:
    """The mean's last bits depend on the CPU and its threads; here another order of the values stands for another CPU.

    A mean of 256 values is off by 256 roundings of it at most, whatever the order: two of them differ by less than a
    step of the grid, so each quotient comes to the same point of the grid or the next.
    """
    absmax = torch.rand(256, generator=generator(seed)) ** 2
    order = torch.randperm(256, generator=generator(seed))
    codes, scales, offset = quantize_absmax(absmax)
    moved_codes, moved_scales, moved_offset = quantize_absmax(absmax[order])
    assert 2 * 256 * oracle.UNIT_ROUNDOFF * absmax.mean() < 0.6 * GRID_STEP * scales
    assert abs(offset - moved_offset) <= 2 * 257 * oracle.UNIT_ROUNDOFF * absmax.mean()
    assert abs(scales - moved_scales) <= abs(offset - moved_offset) + 2 * oracle.UNIT_ROUNDOFF
    reachable = reachable_codes()
    places, moved_places = (torch.searchsorted(reachable, part.long()) for part in (codes[order], moved_codes))
    assert torch.equal(reachable[places], codes[order].long())
    assert (places - moved_places).abs().max() <= 1


def test_what_is_stored_reads_the_same_with_any_number_of_threads() -> None:
    """Made with one thread or two, from so many values that torch shares the work: each reads the same with both."""
    before = torch.get_num_threads()
    absmax = torch.rand(40_001, generator=generator(0))
    try:
        for making in (1, 2):
            torch.set_num_threads(making)
            stored = quantize_absmax(absmax)
            read = []
            for reading in (1, 2):
                torch.set_num_threads(reading)
                read.append(bits(dequantize_absmax(*stored)))
            assert read[0] == read[1]
    finally:
        torch.set_num_threads(before)


def test_codes_own_their_memory() -> None:
    """A view of a padded buffer would keep the padding alive and be saved with it."""
    codes, _, _ = quantize_absmax(typical_absmax(3))
    assert codes.untyped_storage().nbytes() == 3
