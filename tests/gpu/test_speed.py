"""Times on the GPU: one layer beside torch's and bitsandbytes', and generation before and after quantizing.

    pytest -m gpu --benchmark-autosave

stores them under the key of GPU, driver, torch and CUDA (`tests/benchmarks/gating`). Without one of pytest-benchmark's
options, as in a rehearsal, each runs once, on a small layer, and what it computed is checked.
"""

import itertools

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from quant import INT4, NF4, W8A16
from quant.gated_model import GatedModel
from quant.integrations.transformers import quiet_transformers
from quant.modules import quantized_linear
from quant.schemes import Scheme
from quant.variants import BASELINE, load_variant
from tests.benchmarks.competitors import Competitor, bnb_int8, bnb_nf4, linear
from tests.benchmarks.conftest import times
from tests.benchmarks.on_device import through_copies, timed
from tests.benchmarks.test_linear import CHECKED, SHAPES
from tests.gpu.measuring import SCHEMES
from tests.gpu.pairs import ROWS, gpu_pairs
from tests.strategies import normal

pytestmark = pytest.mark.gpu
PROMPT, NEW = 64, 32


def _ours(scheme: Scheme, dtype: torch.dtype = torch.bfloat16) -> Competitor:
    return Competitor(dtype, lambda weight: quantized_linear(linear(weight), scheme))


LAYERS = {
    "linear-bf16": Competitor(torch.bfloat16, lambda weight: linear(weight.bfloat16())),
    "linear-fp16": Competitor(torch.float16, lambda weight: linear(weight.half())),
    "w8a16": _ours(W8A16()),
    "w8a16-fp16": _ours(W8A16(), torch.float16),
    "nf4": _ours(NF4()),
    "nf4-fp16": _ours(NF4(), torch.float16),
    "nf4-dq": _ours(NF4(double_quant=True)),
    "int4": _ours(INT4()),
    "bnb-nf4": Competitor(torch.bfloat16, bnb_nf4),
    "bnb-int8": Competitor(torch.bfloat16, bnb_int8),
}
"""Those of float dtypes come first."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "layer" in metafunc.fixturenames:
        shapes = CHECKED if metafunc.config.getoption("benchmark_disable") else SHAPES
        metafunc.parametrize(("layer", "rows", "name"), list(itertools.product(shapes, ROWS, LAYERS)))


@pytest.mark.filterwarnings("ignore:MatMul8bitLt:UserWarning")  # it casts bfloat16 to float16, and says so
def test_layer(layer: str, rows: int, name: str, device: torch.device, benchmark: BenchmarkFixture) -> None:
    out_features, in_features = {**SHAPES, **CHECKED}[layer]
    weight = normal((out_features, in_features), std=0.02)
    built: nn.Module = LAYERS[name].build(weight).to(device)
    x = normal((rows, in_features), seed=1).to(device, LAYERS[name].dtype)
    call, copies = through_copies(built, x, weight.numel(), times(benchmark))
    benchmark.group = f"{layer} {out_features}x{in_features}, {rows} rows"
    benchmark.extra_info.update({"name": name, "layer": layer, "rows": rows})
    y = timed(benchmark, device, call, tokens=rows, calls=copies)
    # Formats of 4 bits err by a tenth on normal data; a product with another matrix by 1 or more.
    expected = x[:2].cpu().double() @ weight.double().t()
    assert (y.dtype, y.shape) == (x.dtype, (rows, out_features))
    assert torch.linalg.norm(y[:2].cpu().double() - expected) < 0.25 * torch.linalg.norm(expected)


@pytest.mark.parametrize("scheme", [BASELINE, *SCHEMES])
def test_generation(scheme: str, gated_model: GatedModel, device: torch.device, benchmark: BenchmarkFixture) -> None:
    source, new_tokens = gated_model.source, NEW if times(benchmark) else 2
    with quiet_transformers():
        model = load_variant(scheme, source.folder, source.dtype, str(device)).model
    prompt = gated_model.windows.ids[None, :PROMPT].to(device)
    options = {"do_sample": False, "min_new_tokens": new_tokens, "max_new_tokens": new_tokens}
    benchmark.group, benchmark.extra_info["name"] = f"generate {NEW} tokens", scheme

    def generate() -> torch.Tensor:
        output: torch.Tensor = model.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
        return output

    output = timed(benchmark, device, generate, tokens=new_tokens)
    assert output.shape == (1, PROMPT + new_tokens)


def test_times_on_a_gpu_are_held_to_each_other(device: torch.device, pytestconfig: pytest.Config) -> None:
    """And those of a rehearsal to nothing: the CPU has benchmarks of its own."""
    found = pytestconfig.hook.pytest_benchmark_pairs(config=pytestconfig)
    held, ours = {pair.name for pairs in found for pair in pairs}, {pair.name for pair in gpu_pairs()}
    assert held & ours == (ours if device.type == "cuda" else set())
