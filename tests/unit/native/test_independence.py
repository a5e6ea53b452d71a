"""The same bits for one row or many, for every number of threads, for every variant, wherever the operands lie in
memory and whatever the caller does with subnormals. These compare the kernels with themselves, so the sizes are large.
"""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from quant import native
from quant.schemes import Scheme
from tests.strategies import LAYOUTS, normal, scheme_id
from tests.unit.native.edges import edge_rows, edge_weight
from tests.unit.native.operands import (
    DTYPES,
    SCHEMES,
    BlockWeight,
    Int8Weight,
    Weight,
    assert_same_bits,
    random_weight,
)

WIDE = (129, 528)
ODD = (65, 129)
LONG = (17, 4112)


@pytest.fixture
def threads() -> Iterator[None]:
    """The test may change the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def subnormals() -> Iterator[None]:
    """The test may have subnormals flushed to zero."""
    yield
    torch.set_flush_denormal(False)


@pytest.mark.parametrize(
    ("rows", "widths"),
    [(1, [(1041, 528), (1041, 513)]), (5, [(528, 320), (257, 513)]), (130, [(129, 320), (33, 129), (3, 2048)])],
    ids=["1 row", "5 rows", "130 rows"],
)
@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_threads(scheme: Scheme, rows: int, widths: list[tuple[int, int]], threads: None, variant: str) -> None:
    """Half a million products and more, of which waking another thread is worth it."""
    for out_features, in_features in widths:
        assert rows * out_features * in_features > 2**19
        weight = random_weight(scheme, out_features, in_features)
        x, bias = normal((rows, in_features), seed=2), normal((out_features,), seed=3)
        torch.set_num_threads(1)
        alone = weight.linear(x, bias)
        for count in (2, 3):
            torch.set_num_threads(count)
            assert_same_bits(weight.linear(x, bias), alone, (out_features, in_features, count))


@pytest.mark.parametrize("width", [WIDE, ODD, LONG], ids=str)
@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_a_row_in_a_batch_is_the_row_alone(scheme: Scheme, width: tuple[int, int], variant: str) -> None:
    weight = random_weight(scheme, *width)
    x = normal((512, width[1]), seed=2)
    alone = torch.cat([weight.linear(x[row : row + 1]) for row in range(33)])
    for rows in (2, 3, 16, 33):
        assert_same_bits(weight.linear(x[:rows]), alone[:rows], rows)
    whole = weight.linear(x)
    assert_same_bits(whole[:33], alone)
    for row in range(33, 512, 37):
        assert_same_bits(whole[row : row + 1], weight.linear(x[row : row + 1]), row)


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_a_very_large_batch(scheme: Scheme, variant: str) -> None:
    weight = random_weight(scheme, 17, 80)
    x = normal((2100, 80), seed=2)
    parts = [weight.linear(x[first : first + 7]) for first in range(0, len(x), 7)]
    assert_same_bits(weight.linear(x), torch.cat(parts))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_variants(scheme: Scheme, dtype: torch.dtype) -> None:
    first, *others = native.supported()
    for width in (WIDE, ODD, LONG):
        weight = random_weight(scheme, *width)
        bias = normal((width[0],), seed=3)
        for rows in (1, 2, 3, 16, 33, 512):
            x = normal((rows, width[1]), seed=2).to(dtype)
            with native.override(first):
                expected = weight.linear(x, bias)
            for name in others:
                with native.override(name):
                    assert_same_bits(weight.linear(x, bias), expected, (name, width, rows))


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_an_override_takes_effect_and_ends(scheme: Scheme, variant: str) -> None:
    """Floats in place of integers show in the bits; otherwise the tests of the variants might all run the same one."""
    weight, x = random_weight(scheme, *WIDE), normal((3, WIDE[1]), seed=2)
    integers = weight.linear(x)
    with native.override("torch"):
        assert not torch.equal(weight.linear(x), integers)
    assert_same_bits(weight.linear(x), integers)


def moved(tensor: Tensor) -> Tensor:
    """The same values in memory that starts one element past an aligned address and goes on with other values."""
    holder = torch.full((tensor.numel() + 8,), 100, dtype=tensor.dtype)
    view = holder[1 : 1 + tensor.numel()].view(tensor.shape)
    return view.copy_(tensor)


def moved_weight(weight: Weight) -> Weight:
    """The same weight, its tensors `moved`."""
    assert isinstance(weight, Int8Weight | BlockWeight)
    tensors = {name: moved(value) for name, value in vars(weight).items() if isinstance(value, Tensor)}
    return type(weight)(**{**vars(weight), **tensors})


@pytest.mark.parametrize("rows", [1, 3, 33])
@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_where_operands_lie(scheme: Scheme, rows: int, variant: str) -> None:
    for width in (WIDE, ODD, (17, 80)):
        weight, bias = random_weight(scheme, *width), normal((width[0],), seed=3)
        for dtype in DTYPES:
            x = normal((rows, width[1]), seed=2).to(dtype)
            expected = weight.linear(x, bias)
            assert_same_bits(moved_weight(weight).linear(moved(x), moved(bias)), expected, width)
            for name, layout in LAYOUTS.items():
                expected = weight.linear(layout(x).clone(memory_format=torch.contiguous_format), bias)
                assert_same_bits(weight.linear(layout(x), bias), expected, (name, width))


def strided(tensor: Tensor) -> Tensor:
    """The same values, every other element of memory."""
    return torch.stack([tensor, torch.zeros_like(tensor)], -1)[..., 0]


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_strides_of_the_weight_do_not_matter(scheme: Scheme, variant: str) -> None:
    weight, x = random_weight(scheme, *WIDE), normal((3, WIDE[1]), seed=2)
    assert isinstance(weight, Int8Weight | BlockWeight)
    tensors = {name: strided(value) for name, value in vars(weight).items() if isinstance(value, Tensor)}
    assert_same_bits(type(weight)(**{**vars(weight), **tensors}).linear(x), weight.linear(x))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_flushing_subnormals_changes_nothing(
    scheme: Scheme, dtype: torch.dtype, threads: None, subnormals: None, variant: str
) -> None:
    """Neither the result, of one thread or two, nor whether the caller's own subnormals are flushed."""
    weight, x = edge_weight(scheme, 300, 160), edge_rows(160, dtype)
    batches = [x, *(x[row : row + 1] for row in range(len(x)))]
    expected = [weight.linear(batch) for batch in batches]
    smallest, half = torch.tensor([2.0**-130]), torch.tensor([0.5])
    for count in (1, 2):
        torch.set_num_threads(count)
        if not torch.set_flush_denormal(True):
            pytest.skip("this CPU does not flush subnormals")
        actual = [weight.linear(batch) for batch in batches]
        product = (smallest * half).view(torch.int32).item()
        torch.set_flush_denormal(False)
        assert product == 0
        assert_same_bits(torch.cat(actual), torch.cat(expected), count)
        weight.linear(x)
        assert (smallest * half).item() == 2.0**-131
