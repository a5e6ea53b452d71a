"""Records made by hand: three measured schemes and one that could not be made, in numbers easy to recognise."""

from dataclasses import replace

from quant.evaluate.fingerprint import Fingerprint
from quant.evaluate.footprint import Footprint
from quant.evaluate.loss_profile import PositionBin
from quant.inspection import Inspection, Sizing
from quant.records import Comparison, Result
from quant.variants import VARIANTS

ENVIRONMENT = Fingerprint(
    tokens_sha256="ab" * 32,
    scored_tokens=12_345,
    window=256,
    stride=255,
    bos_id=1,
    dtype="float32",
    batch_size=8,
    device="cpu",
    cpu="A CPU, 2 cores, AVX2",
    threads=2,
    versions={"python": "3.11.7", "torch": "2.13.0"},
)
WINDOW_TOKENS = (500,) * 24 + (345,)
POSITIONS = (PositionBin(1, 1, 25), PositionBin(2, 2, 25), PositionBin(3, 4, 12_295))
LOSSES = tuple(3.5 + 0.01 * window for window in range(25))
BASELINE = Result(
    scheme="baseline",
    quantized_layers=0,
    linear_layers=25,
    footprint_bytes=30_000_000,
    parameter_bytes=29_999_936,
    buffer_bytes=64,
    bytes_by_dtype={"float32": 30_000_000},
    offloaded_bytes=4_000_000,
    times_smaller=1.0,
    perplexity=35.23456789,
    window_losses=LOSSES,
    loss_by_position=(5.25, 4.5, 3.5),
    load_seconds=0.5,
    generate_seconds=2.0,
    prefill_tokens_per_second=1234.5,
    tokens_per_second=40.0,
    times_faster=1.0,
    cpu_memory_bytes=1_500_000_000,
    gpu_memory_bytes=0,
    generated="of the | United States",
    generated_agrees=22,
)
INT8 = Result(
    scheme="w8a16",
    quantized_layers=24,
    linear_layers=25,
    footprint_bytes=12_000_000,
    parameter_bytes=11_999_936,
    buffer_bytes=64,
    bytes_by_dtype={"float32": 6 * 2**20, "int8": 12_000_000 - 6 * 2**20},
    offloaded_bytes=0,
    times_smaller=2.5,
    perplexity=35.23556789,
    perplexity_difference=0.001,
    perplexity_relative_change=0.0000284,
    perplexity_ratio=1.0000284,
    perplexity_ratio_ci=(0.9999, 1.0001),
    kl_mean=3.25e-5,
    kl_mean_ci=(3e-5, 3.5e-5),
    top1_agreement=0.9975,
    window_losses=tuple(loss + 2e-5 for loss in LOSSES),
    window_kl=(3.25e-5,) * 25,
    loss_by_position=(5.375, 4.5, 3.5),
    loss_difference_by_position=(0.125, -0.0625, 0.0001),
    loss_difference_quantiles={
        "0.01": -0.5,
        "0.05": -0.25,
        "0.25": -0.0625,
        "0.5": 0.001,
        "0.75": 0.03125,
        "0.95": 0.125,
        "0.99": 0.75,
    },
    layer_sqnr={"model.layers.0.mlp.down_proj": 41.25, "model.layers.11.mlp.down_proj": 43.5},
    load_seconds=0.25,
    generate_seconds=1.5,
    prefill_tokens_per_second=2000.0,
    tokens_per_second=60.0,
    times_faster=1.5,
    cpu_memory_bytes=900_000_000,
    gpu_memory_bytes=2_250_000_000,
    generated="of the United States",
    generated_agrees=7,
)
INFINITE = Result(
    scheme="nf4",
    block_size=128,
    quantized_layers=24,
    linear_layers=25,
    footprint_bytes=10_000_000,
    parameter_bytes=9_999_936,
    buffer_bytes=64,
    bytes_by_dtype={"uint8": 10_000_000},
    times_smaller=3.0,
    perplexity=float("inf"),
    perplexity_difference=float("inf"),
    perplexity_relative_change=float("inf"),
    perplexity_ratio=float("inf"),
    perplexity_ratio_ci=(1.5, float("inf")),
    interval_note="a token had probability 0",
    kl_mean=float("nan"),
    kl_mean_ci=None,
    top1_agreement=0.0,
    window_losses=(*LOSSES[:-1], float("inf")),
    window_kl=(*LOSSES[:-1], float("nan")),
    loss_by_position=(5.5, float("inf"), 4.5),
    loss_difference_by_position=(0.25, float("inf"), 1.0),
    loss_difference_quantiles=dict.fromkeys(("0.01", "0.05", "0.25", "0.5", "0.75", "0.95", "0.99"), float("nan")),
    layer_sqnr={"model.layers.0.mlp.down_proj": float("inf"), "model.layers.11.mlp.down_proj": -1.5},
    load_seconds=0.25,
    generate_seconds=1.5,
    prefill_tokens_per_second=2000.0,
    tokens_per_second=None,
    cpu_memory_bytes=-1_000_000,
    gpu_memory_bytes=0,
    generated=None,
)
MISSING = Result(scheme="bnb-nf4", error="bnb-nf4 needs bitsandbytes: pip install 'quant[bitsandbytes]'")

COMPARISON = Comparison(
    "my-model",
    ENVIRONMENT,
    64,
    32,
    (BASELINE, INT8, INFINITE, MISSING),
    2,
    WINDOW_TOKENS,
    POSITIONS,
    "quant compare my-model --json out.json",
)

BEFORE = Inspection(
    {"Linear": 25, "Phi3RMSNorm": 13}, 25, 0, Footprint(15_284_318_208, 384, {"float32": 15_284_318_592}), None, {}
)
AFTER = Inspection(
    {"W8A16Linear": 24, "Phi3RMSNorm": 13, "Linear": 1},
    25,
    24,
    Footprint(4_416_745_472, 384, {"int8": 3456 * 2**20, "float32": 4_416_745_856 - 3456 * 2**20}),
    "model.layers.0.mlp.down_proj",
    {"weight": "int8 [64, 128]", "weight_scale": "float32 [64]"},
)
SIZING = Sizing("phi-3-mini", "float32", "w8a16", BEFORE, AFTER, {"lm_head": "output head"})
SIZING_ALONE = Sizing("phi-3-mini", "float32", None, BEFORE, None, {})

KINDS = ["self_attn.qkv_proj", "mlp.down_proj"]


def many_schemes() -> Comparison:
    """Every scheme, made of one record, with two kinds of layers in three blocks."""
    sqnr = {f"model.layers.{block}.{kind}": 40.0 + block for kind in KINDS for block in range(3)}
    others = [replace(INT8, scheme=name, layer_sqnr=sqnr | {"lm_head": 38.0}) for name in VARIANTS[1:]]
    return replace(COMPARISON, results=(BASELINE, *others))
