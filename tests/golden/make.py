"""`python -m tests.golden.make`: write the golden checkpoints of the current format version.

They are written once, with the version that introduced the format, and committed. What is there is not written again: a
later version that wrote other bytes would hide that it did. Beside each checkpoint lie the bytes of a small matrix as
text (`packed`), or the plan of the one of several schemes, and the model's logits (`logits`); `sums` holds them all.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quant import MixedPrecision, quantize
from quant.integrations.quantization_config import FORMAT_VERSION
from quant.integrations.transformers import quiet_transformers
from quant.modules import QuantizedLinear
from quant.schemes import FP4, INT4, NF4, SCHEMES, W8A16, Scheme
from tests.checkpoints import load
from tests.golden import logits, packed, sums
from tests.models import tiny_phi3

FOLDER = Path(__file__).parent
EXPECTED = "expected.json"
FOLDERS = sorted(path.parent for path in FOLDER.glob(f"v*/*/{EXPECTED}"))
"""The checkpoints that were there when this module was imported."""
SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 80,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
MIXED = "mixed"
"""The folder of the checkpoint of several schemes."""
PLAN = MixedPrecision(
    {
        "model.layers.0.self_attn.o_proj": W8A16(),
        "model.layers.0.self_attn.qkv_proj": NF4(),
        "model.layers.0.mlp.gate_up_proj": FP4(32, double_quant=True),
        "model.layers.0.mlp.down_proj": INT4(128),
        "lm_head": None,
    }
)
PLAN_FILE = "plan.json"


def digest(tensor: Tensor) -> str:
    """SHA-256 of the bytes of `tensor`."""
    return hashlib.sha256(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


def activations(width: int, dtype: torch.dtype) -> Tensor:
    """x [3, width]: a ramp, its square and zeros; exact in every dtype, so that layers must give the same bits."""
    ramp = torch.arange(width, dtype=torch.float32) - width // 2
    return torch.stack([ramp / 16, (ramp.remainder(16)) ** 2 / 64, torch.zeros(width)]).to(dtype)


def facts(model: Any) -> dict[str, dict[str, str]]:
    """Digests of every tensor that `model` stores, and of the output of each quantized layer."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, QuantizedLinear)}
    with torch.no_grad():
        outputs = {name: digest(layer(activations(layer.in_features, layer.dtype))) for name, layer in layers.items()}
    return {"tensors": {name: digest(tensor) for name, tensor in model.state_dict().items()}, "outputs": outputs}


def main() -> None:
    """Write each scheme's checkpoint and each file beside it that is not there."""
    version = FOLDER / f"v{FORMAT_VERSION}"
    made: dict[str, Scheme | MixedPrecision] = {**SCHEMES, MIXED: PLAN}
    for name, scheme in made.items():
        folder = version / name
        if not folder.exists():
            model = quantize(tiny_phi3(**SIZES).to(torch.bfloat16), scheme)
            with quiet_transformers():
                model.save_pretrained(folder)  # type: ignore[operator]
            (folder / EXPECTED).write_text(json.dumps(facts(model), indent=1) + "\n", encoding="utf-8")
        if isinstance(scheme, MixedPrecision):
            if not (folder / PLAN_FILE).exists():
                (folder / PLAN_FILE).write_text(scheme.to_json(), encoding="utf-8")
        elif not (folder / packed.FILE).exists():
            packed.write(folder, scheme)
        if not (folder / logits.FILE).exists():
            logits.write(folder, load(folder))
    sums.record(version)


if __name__ == "__main__":
    main()
