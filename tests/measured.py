"""The figures that only measuring gives, each with the function that measures it: `python -m tests.measured` prints
them anew, as the tables here are written.

All are of models with weights from a fixed seed, which are the same on every CPU (`tests.models.seeded`). Measured with
torch 2.13.0, transformers 5.23.0 and bitsandbytes 0.50.2 on a Zen 4, with AVX-512 and without vectors
(ATEN_CPU_CAPABILITY=default), on one thread and on two: what follows agreed to 1e-4 of itself, decoding excepted, of
which the largest is given. `EFFECT_TOLERANCE` and `KL_TOLERANCE` are what tests allow, from both sides.
"""

import copy
import dataclasses
import inspect
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import quant
from quant.compare import compare
from quant.records import Request
from quant.schemes import INT4, NF4, Scheme
from quant.schemes import SCHEMES as REGISTERED
from tests.models import Layers, seeded, tiny_gpt2, tiny_phi3, tokens
from tests.strategies import scheme_id

EFFECT_TOLERANCE = 0.02
"""Activations in 16 bits, 258 times finer than int8 weights, would move an effect by 1/258 of W8A16's."""
SAME_WEIGHTS_SHARE = 1 / 25
"""Of what W8A16 changes on the same model: the most that two layers with the same weights may differ by. Activations in
16 bits make 1/600 to 1/200, NF4's integer levels up to 1/54, a lost bias, scale or transposition more than 1.
"""
EFFECTS = {
    "layers": {"w8a16": 3.14e-03, "nf4-32": 5.53e-02, "fp4-64": 7.79e-02, "int4-128": 8.45e-02},
    "phi3": {"w8a16": 7.59e-03, "nf4-64": 1.05e-01, "nf4-64-dq": 1.05e-01, "fp4-64": 1.39e-01, "int4-64": 1.36e-01},
    "gpt2": {"w8a16": 9.18e-04, "nf4-64": 1.55e-02, "nf4-64-dq": 1.56e-02, "fp4-64": 2.13e-02, "int4-64": 1.64e-02},
}
"""By how much quantizing moves the logits of a model, at most over all of them (which are below 1.4, 0.74 and 0.48).

The last two tables, `DECODING` and `VARIANT_KL` hold every registered scheme: `tests.contract.registered` refuses one
that they lack.
"""

DECODING = {"w8a16": 1.5e-05, "nf4-64": 2.4e-07, "nf4-64-dq": 5.6e-06, "fp4-64": 3.6e-07, "int4-64": 7.3e-06}
"""Largest difference of the logits of tiny Phi-3 between one pass over 8 tokens and token by token with the cache. The
quantized layers give the same bits for the same activations, but attention and norms sum float32 in another order (3 to
4 units in the last place of 0.7), and an activation that lies on the boundary of two steps of the fixed point may fall
on either side. Tests allow `DECODING_FACTOR` times the largest of these; different tokens differ by 0.4 or more.
"""
DECODING_FACTOR = 10

KL_TOLERANCE = 0.002
"""Of itself. Kernels of every kind give the same digits here. Without vectors in torch, or with torch 2.6, the sums of
floats in another order make 1.3e-4 at most, and layers of plain torch, whose activations are not rounded, 6.0e-4. So
three times the most that was seen, for versions that were not; NF4 with and without double quantization are 9.0e-3
apart.
"""
VARIANT_KL = {
    "w8a16": 7.0347e-05,
    "w8a16-full": 1.7269e-04,
    "nf4": 1.7868e-02,
    "nf4-dq": 1.8029e-02,
    "fp4": 4.2300e-02,
    "int4": 2.6889e-02,
    "bnb-int8": 1.2937e-04,
    "bnb-fp4": 4.2392e-02,
    "bnb-nf4": 1.8054e-02,
}
"""Mean KL in nats of every variant on the 39 scored tokens of `tests.unit.tiny_comparison.short_request`."""

MODELS: dict[str, Callable[[], Any]] = {"layers": lambda: seeded(Layers), "phi3": tiny_phi3, "gpt2": tiny_gpt2}
SCHEMES: dict[str, Scheme] = {scheme_id(scheme): scheme for scheme in (NF4(32), INT4(128), *REGISTERED.values())}


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        output: Any = model(torch.arange(11)[None]) if isinstance(model, Layers) else model(tokens()).logits
    result: Tensor = output
    return result


def same_weights_and_effect(model: str, scheme: str) -> tuple[float, float]:
    """Largest difference of the quantized model's logits: to those of the same model with its rounded weights in float
    layers, and to the unquantized model's.
    """
    built = MODELS[model]()
    before = logits(built)
    quantized = quant.quantize(built, SCHEMES[scheme])
    after = logits(quantized)
    rounded = logits(quant.dequantize(copy.deepcopy(quantized)))
    return float((after - rounded).abs().max()), float((after - before).abs().max())


def decoding(scheme: str) -> tuple[float, float]:
    """Difference of the logits of 8 tokens between token by token and one pass: the largest for the same token, and the
    smallest (over tokens, of the largest over logits) for the token before.
    """
    model = quant.quantize(tiny_phi3(), SCHEMES[scheme])
    # transformers 5.24 has renamed it.
    name = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
    ids, cache, steps = tokens(1, 8), None, []
    with torch.no_grad():
        for position in range(8):
            output = model(ids[:, position : position + 1], use_cache=True, **{name: cache})
            cache = output[name]
            steps.append(output.logits)
        whole = model(ids).logits
    single = torch.cat(steps, dim=1)
    others = (single[:, :-1] - whole[:, 1:]).abs().amax(-1)
    return float((single - whole).abs().max()), float(others.min())


def variant_kl(request: Request) -> dict[str, float | None]:
    """Mean KL of every variant."""
    return {result.scheme: result.kl_mean for result in compare(dataclasses.replace(request, schemes=None)).results[1:]}


def rows_of(table: dict[str, float]) -> list[str]:
    """The schemes of `table`, and the registered ones that it lacks."""
    return list(dict.fromkeys((*table, *map(scheme_id, REGISTERED.values()))))


def main() -> None:
    """Print all tables of this file, with the schemes that have been registered since."""
    from tests.unit.conftest import save_model, words  # noqa: PLC0415
    from tests.unit.tiny_comparison import short_request  # noqa: PLC0415

    print(f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads")
    for model, effects in EFFECTS.items():
        rows = list(effects) if model == "layers" else rows_of(effects)
        pairs = {scheme: same_weights_and_effect(model, scheme) for scheme in rows}
        print(f"{model}: effects", {scheme: f"{effect:.2e}" for scheme, (_, effect) in pairs.items()})
        print(f"{model}: same weights", {scheme: f"{same:.1e}" for scheme, (same, _) in pairs.items()})
    pairs = {scheme: decoding(scheme) for scheme in rows_of(DECODING)}
    print("decoding", {scheme: f"{same:.1e} (another token {other:.1e})" for scheme, (same, other) in pairs.items()})
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "text.txt").write_text(words(1000), encoding="utf-8")
        request = short_request(save_model(Path(folder), tied=False), Path(folder) / "text.txt")
        print("variants", {name: f"{kl:.4e}" for name, kl in variant_kl(request).items()})


if __name__ == "__main__":
    main()
