"""Native quantizing gives the bits of the torch reference: every variant, dtype, format and block size, tails, edge
rows, strides and threads; and leaves to the reference what it cannot do.

The reference itself is held to the oracle and to bitsandbytes elsewhere, and so are these kernels, since they are what
`quantize_tensor` uses.
"""

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from quant import QuantError, native, quantize_tensor
from quant.codebooks import LEVELS
from quant.schemes import FP4, INT4, NF4, W8A16, Scheme
from tests.strategies import ALL_SCHEMES, LAYOUTS, bits, cast, normal, per_kind, scheme_id, weights
from tests.unit.native.operands import DTYPES

SCHEMES: tuple[Scheme, ...] = (W8A16(), NF4(32), NF4(64, True), FP4(32), INT4(128))
SIZES = ((1, 1), (1, 2), (3, 5), (2, 63), (3, 64), (4, 65), (5, 129), (7, 1000))


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """A test may change the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def stored(weight: Tensor, scheme: Scheme, kernels: str) -> dict[str, list[int]]:
    """The bytes of what `kernels` store for `weight`."""
    with native.override(kernels):
        return {name: bits(part.reshape(-1)) for name, part in quantize_tensor(weight, scheme).stored.items()}


def edge_weight(in_features: int, dtype: torch.dtype) -> Tensor:
    """Rows at the edges of float32, and one in which every quotient of int8 is a tie."""
    noise = normal((in_features,), seed=4).tolist()
    ties = [127.0, *((index % 253 - 126.5) for index in range(in_features - 1))]
    rows = [
        *([value * scale for value in noise] for scale in (1.0, 1e-45, 2.0**-149, 1e-38, 2e-36, 3e-36, 4e-36, 1e37)),
        [0.0] * in_features,
        [-0.0] * in_features,
        ties[:in_features],
        [torch.finfo(torch.float32).max] * in_features,
        [2.0**-126] * in_features,
        [127 * 2.0**-125] * in_features,
        [1e-38] * in_features,
    ]
    return cast(rows, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scheme", ALL_SCHEMES, ids=scheme_id)
def test_sizes_with_tails(scheme: Scheme, dtype: torch.dtype, variant: str) -> None:
    for size in SIZES:
        weight = normal(size, seed=1).to(dtype)
        assert stored(weight, scheme, variant) == stored(weight, scheme, "torch"), size


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_edge_rows(scheme: Scheme, dtype: torch.dtype, variant: str) -> None:
    for in_features in (1, 31, 64, 255):
        weight = edge_weight(in_features, dtype)
        assert stored(weight, scheme, variant) == stored(weight, scheme, "torch"), in_features


@pytest.mark.parametrize("codebook", LEVELS)
@pytest.mark.parametrize("width", [31, 64 + 31], ids=["a short block alone", "behind a whole one"])
def test_midpoints_of_short_blocks_are_divided_and_not_multiplied_by_a_reciprocal(
    codebook: str, width: int, variant: str
) -> None:
    """Weights on the boundary between two levels: the rounding of a reciprocal moves some of them across."""
    scheme = next(scheme for scheme in (NF4(64), FP4(64), INT4(64)) if scheme.codebook == codebook)
    levels = sorted(LEVELS[codebook])
    middle = torch.tensor([1.0, *((low + high) / 2 for low, high in pairwise(levels))])
    rows = torch.zeros(200, width)
    rows[:, -16:] = middle * torch.linspace(0.1, 30, 200)[:, None]
    reference = torch.cat([tail / tail[0] for tail in rows[:, -16:]])
    multiplied = torch.cat([tail * (1 / tail[0]) for tail in rows[:, -16:]])
    assert (reference != multiplied).any()
    for row in rows:
        assert stored(row, scheme, variant) == stored(row, scheme, "torch")


@per_kind(ALL_SCHEMES)
@given(weight=weights(DTYPES), data=st.data())
def test_any_weight(alike: st.SearchStrategy[Scheme], weight: Tensor, data: st.DataObject) -> None:
    scheme = data.draw(alike)
    expected = stored(weight, scheme, "torch")
    for name in native.supported():
        assert stored(weight, scheme, name) == expected, name


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_the_default_dtype_does_not_matter(scheme: Scheme, dtype: torch.dtype, variant: str) -> None:
    weight = normal((5, 33), seed=6)
    expected = stored(weight, scheme, "torch")
    torch.set_default_dtype(dtype)
    try:
        assert stored(weight, scheme, variant) == stored(weight, scheme, "torch") == expected
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_threads(scheme: Scheme, variant: str) -> None:
    weight = normal((300, 520), seed=2)
    expected = stored(weight, scheme, "torch")
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        assert stored(weight, scheme, variant) == expected, count


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_strides_do_not_matter_and_the_weight_is_unchanged(scheme: Scheme, layout: str, variant: str) -> None:
    weight = LAYOUTS[layout](normal((6, 70), seed=3))
    before = bits(weight)
    assert stored(weight, scheme, variant) == stored(weight.clone(), scheme, "torch")
    assert bits(weight) == before


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_a_weight_that_torch_negates_lazily(scheme: Scheme, variant: str) -> None:
    """The imaginary part of a conjugate is a view of memory that holds the opposite sign; it is contiguous
    where it is one element.
    """
    weight = torch.complex(torch.tensor([[1.0]]), torch.tensor([[-2.0]])).conj().imag
    assert weight.is_neg()
    assert weight.is_contiguous()
    assert stored(weight, scheme, variant) == stored(torch.tensor([[2.0]]), scheme, "torch")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_what_is_not_finite_is_counted_by_the_reference(
    scheme: Scheme, dtype: torch.dtype, bad: float, variant: str
) -> None:
    weight = normal((5, 70), seed=5).to(dtype)
    weight[4, 69] = weight[0, 3] = bad
    with pytest.raises(QuantError, match="has 2 NaN or infinite values"):
        quantize_tensor(weight, scheme)


def test_which_weights_are_quantized_natively(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    for name in ("quantize_int8", "quantize_blocks"):
        monkeypatch.setattr(native, name, lambda *_, name=name: called.append(name))
    for dtype in DTYPES:
        quantize_tensor(torch.ones(2, 64, dtype=dtype), W8A16())
        quantize_tensor(torch.nn.Parameter(torch.ones(2, 64, dtype=dtype)), NF4())
    assert called == ["quantize_int8", "quantize_blocks"] * 3
    called.clear()
    quantize_tensor(torch.ones(2, 64, dtype=torch.float64), W8A16())
    with native.override("torch"):
        quantize_tensor(torch.ones(2, 64), NF4())
    assert called == []
