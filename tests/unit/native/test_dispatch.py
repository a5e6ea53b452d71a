"""Which implementation computes what: the table in words of its own, and that layers run what it names."""

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from quant import NF4, W8A16, kernels, native
from quant.modules import QuantizedLinear, quantized_linear
from quant.schemes import Scheme
from tests.models import seeded
from tests.strategies import bits, normal, scheme_id

ROWS = (0, 1, 2, 8, 9, 12, 13, 24, 25, 64, 65, 512)
FEW, MANY, TORCH = "cpu.{}_few_rows", "cpu.{}_many_rows", "reference.{}"
TABLE = {
    "w8a16_linear": {
        "avx512": (*[FEW] * 10, MANY, MANY),
        "avx2": (*[FEW] * 6, *[MANY] * 6),
        "neon": (*[FEW] * 6, *[MANY] * 6),
        "portable": (FEW, *[MANY] * 11),
    },
    "blockwise_linear": {
        "avx512": (*[FEW] * 8, *[MANY] * 4),
        "avx2": (*[FEW] * 4, *[MANY] * 8),
        "neon": (*[FEW] * 4, *[MANY] * 8),
        "portable": (FEW, FEW, *[MANY] * 10),
    },
}
"""Op -> variant -> implementation for each of `ROWS`, of float32, bfloat16 and float16 on the CPU. Everything else is
torch's."""
OPS = ("w8a16_linear", "blockwise_linear", "w8a16_grad_input", "blockwise_grad_input")
NARROW = (torch.float32, torch.bfloat16, torch.float16)
SCHEMES: tuple[Scheme, ...] = (W8A16(), NF4(), NF4(double_quant=True))
WIDTH = 64


def name_of(implementation: object) -> str:
    """As `FEW`, `MANY` and `TORCH` call it."""
    return f"{implementation.__module__.rpartition('.')[2]}.{getattr(implementation, '__name__', None)}"


def op_of(scheme: Scheme) -> str:
    return "w8a16_linear" if scheme == W8A16() else "blockwise_linear"


@pytest.fixture(params=[*native.VARIANTS, "torch"])
def any_variant(request: pytest.FixtureRequest) -> Iterator[str]:
    """The test runs with this variant's kernels, or with none."""
    name: str = request.param
    if name not in (*native.supported(), "torch"):
        pytest.skip(f"this CPU does not run the {name} kernels")
    with native.override(name):
        yield name


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the implementations that have run."""
    names: list[str] = []

    def recorded(implementation: kernels.Implementation) -> kernels.Implementation:
        def run(*operands: object) -> Tensor:
            names.append(name_of(implementation))
            return implementation(*operands)

        return run

    for op, rules in kernels.IMPLEMENTATIONS.items():
        watched = tuple((takes, recorded(implementation)) for takes, implementation in rules)
        monkeypatch.setitem(kernels.IMPLEMENTATIONS, op, watched)
    return names


def layer_of(scheme: Scheme) -> QuantizedLinear:
    return quantized_linear(seeded(lambda: nn.Linear(WIDTH, 20)), scheme)


def test_the_table_has_these_ops() -> None:
    assert tuple(kernels.IMPLEMENTATIONS) == OPS


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize("op", TABLE)
def test_products_on_the_cpu_go_by_the_number_of_rows(op: str, dtype: torch.dtype, any_variant: str) -> None:
    expected = TABLE[op].get(any_variant, (TORCH,) * len(ROWS))
    for rows, name in zip(ROWS, expected, strict=True):
        for shape in ((rows, WIDTH), (rows, 1, WIDTH), (1, rows, WIDTH)):
            assert name_of(kernels.dispatch(op, torch.empty(shape, dtype=dtype))) == name.format(op), shape
    assert name_of(kernels.dispatch(op, torch.empty(WIDTH, dtype=dtype))) == expected[1].format(op)


@pytest.mark.parametrize("op", TABLE)
def test_x_without_dimensions_or_elements_counts_as_no_rows(op: str, any_variant: str) -> None:
    expected = TABLE[op].get(any_variant, (TORCH,))[0].format(op)
    for shape in ((), (0,), (3, 0)):
        assert name_of(kernels.dispatch(op, torch.empty(shape))) == expected, shape


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("op", OPS)
def test_float64_other_devices_subclasses_and_other_layouts_are_torch_s(op: str, rows: int, any_variant: str) -> None:
    x = torch.empty(rows, WIDTH)
    others = {
        "float64": x.double(),
        "meta": x.to("meta"),
        "fake": FakeTensorMode().from_tensor(x),
        "sparse": x.to_sparse(),
        "MKL-DNN": x.to_mkldnn() if rows else x.double(),
    }
    for about, other in others.items():
        assert name_of(kernels.dispatch(op, other)) == TORCH.format(op), about


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize("op", OPS[2:])
def test_gradients_are_torch_s(op: str, dtype: torch.dtype, any_variant: str) -> None:
    for rows in ROWS:
        assert name_of(kernels.dispatch(op, torch.empty(rows, WIDTH, dtype=dtype))) == TORCH.format(op)


@pytest.mark.parametrize("path", ["past the dispatcher", "through it"])
@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_a_layer_runs_what_the_table_says(scheme: Scheme, path: str, any_variant: str, runs: list[str]) -> None:
    op, layer = op_of(scheme), layer_of(scheme)
    expected = TABLE[op].get(any_variant, (TORCH,) * len(ROWS))
    with torch.no_grad() if path == "past the dispatcher" else nullcontext():
        for rows in ROWS:
            layer(normal((rows, WIDTH)))
    assert runs == [name.format(op) for name in expected]


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_the_second_gradient_runs_the_product_again(scheme: Scheme, any_variant: str, runs: list[str]) -> None:
    op, rows = op_of(scheme), 2
    x = normal((rows, WIDTH)).requires_grad_()
    (grad,) = torch.autograd.grad(layer_of(scheme)(x).square().sum(), x, create_graph=True)
    torch.autograd.grad(grad.sum(), x)
    product = TABLE[op].get(any_variant, (TORCH,) * len(ROWS))[ROWS.index(rows)].format(op)
    grad_input = TORCH.format(op.replace("linear", "grad_input"))
    assert runs == [product, grad_input, product, grad_input]


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_x_that_torch_negates_lazily(scheme: Scheme) -> None:
    """The imaginary part of a conjugate is a view of memory that holds the opposite sign."""
    layer = quantized_linear(seeded(lambda: nn.Linear(1, 20)), scheme)
    x = torch.complex(torch.tensor([[1.0]]), torch.tensor([[-2.0]])).conj().imag
    assert x.is_neg()
    assert x.is_contiguous()
    with torch.no_grad():
        assert bits(layer(x)) == bits(layer(torch.tensor([[2.0]])))


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_the_default_device_does_not_matter(scheme: Scheme) -> None:
    layer, x = layer_of(scheme), normal((2, WIDTH))
    expected = layer(x)
    with torch.no_grad(), torch.device("meta"):
        assert bits(layer(x)) == bits(expected)
