"""Logits of each golden checkpoint in float32, and how far those of another machine may be from them.

The quantized layers give the same bits for the same activations. The rest of the model (norms, attention, the head)
sums float32 in an order that depends on the CPU, which is worth a few units in the last place, 3e-8. Where such a
difference carries an activation over the boundary of two steps of the 16-bit fixed point, a quantized layer reads one
step, max |x| / 32767, more or less. `moved_by_a_step` does that to every activation that a quantized layer reads at
once, with random signs, where rounding does it to a few: the most that 20 draws moved any logit (all are below 0.35) is
`STEPS`, and twice that is allowed.

Measured against it (torch 2.13.0, Zen 4): 4.5e-8 at most with ATen, MKL and oneDNN on AVX-512, held to AVX2 and to no
vectors, on 1 and 2 threads; 1.2e-6 with MKL_CBWR=COMPATIBLE, where an activation of FP4's changes its step. Layers of
plain torch, where there are no kernels, read activations that are not rounded and NF4's levels as they are: 3.6e-6 and
1.3e-5. `python -m tests.golden.logits` measures again.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quant.modules import QuantizedLinear
from quant.schemes import SCHEMES

FILE = "logits.json"
IDS = [[1, 5, 42, 16, 53, 27]]
STEPS = 1.4e-05
TOLERANCE = 2 * STEPS
DRAWS = 20
FEW_DRAWS = 3
MOVED = {"w8a16": 1.35e-05, "nf4": 1.09e-05, "nf4-dq": 1.12e-05, "fp4": 1.20e-05, "int4": 1.28e-05, "mixed": 1.16e-05}
"""The most that the first `FEW_DRAWS` draws move any logit: the same digits with every kernel, with AVX-512 and without
vectors in torch.
"""
MOVED_TOLERANCE = 0.25
"""Of `MOVED`: layers of plain torch, which read activations between two steps, move logits by 0.82 to 1.01 of it."""


def logits(model: Any) -> Tensor:
    """float32 [6, 64]: of `IDS`, the model cast to float32."""
    with torch.no_grad():
        result: Tensor = model.to(torch.float32)(torch.tensor(IDS)).logits[0]
    return result


def written(folder: Path) -> Tensor:
    """What `write` has written."""
    content = json.loads((folder / FILE).read_text(encoding="utf-8"))
    assert content["ids"] == IDS
    return torch.tensor([[float(value) for value in row.split()] for row in content["logits"]])


def write(folder: Path, model: Any) -> None:
    """The file of `model` in `folder`, one line for each token."""
    rows = [" ".join(map(repr, row)) for row in logits(model).tolist()]
    content = {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability(), "ids": IDS, "logits": rows}
    (folder / FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def moved_by_a_step(model: Any, seed: int) -> float:
    """The most that any logit moves where every activation of a quantized layer is a step off, up or down at random."""
    generator = torch.Generator().manual_seed(seed)

    def move(_: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        (x,) = inputs
        signs = torch.randint(0, 2, x.shape, generator=generator) * 2 - 1
        return x + x.abs().amax(dim=-1, keepdim=True) / 32767 * signs

    before = logits(model)
    layers = [module for module in model.modules() if isinstance(module, QuantizedLinear)]
    hooks = [layer.register_forward_pre_hook(move) for layer in layers]
    after = logits(model)
    for hook in hooks:
        hook.remove()
    return float((after - before).abs().max())


def main() -> None:
    """Print what this file says was measured."""
    from quant.integrations.quantization_config import FORMAT_VERSION  # noqa: PLC0415
    from tests.checkpoints import load  # noqa: PLC0415

    for name in (*SCHEMES, "mixed"):
        folder = Path(__file__).parent / f"v{FORMAT_VERSION}" / name
        model = load(folder)
        here = float((logits(model) - written(folder)).abs().max())
        steps = [moved_by_a_step(model, seed) for seed in range(DRAWS)]
        few = max(steps[:FEW_DRAWS])
        print(f"{name}: here {here:.1e}, a step {min(steps):.1e} to {max(steps):.1e}, {few:.2e} in {FEW_DRAWS} draws")


if __name__ == "__main__":
    main()
