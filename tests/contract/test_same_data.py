"""The suite's random data has the same bits on every CPU, so that a test that passes here passes there."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.fakes import stream, table
from tests.models import Layers, Shared, seeded, tiny_gpt2, tiny_phi3, tokens
from tests.strategies import normal

PROGRAM = """
import json, torch
from tests.contract.test_same_data import digests
print(json.dumps([torch.backends.cpu.get_cpu_capability(), digests()]))
"""


def digests() -> dict[str, str]:
    """A hash of the bytes of everything that tests draw from torch: noise, logits, token ids, weights of models."""
    data = {f"normal {count}": [normal((count,))] for count in (1, 15, 16, 17, 100, 4097)}
    data |= {"table": [table(11, 7)], "stream": [stream(100, 512)], "tokens": [tokens()]}
    models = {"Phi-3": tiny_phi3(), "GPT-2": tiny_gpt2(), "layers": seeded(Layers), "shared": seeded(Shared)}
    data |= {name: list(model.parameters()) for name, model in models.items()}
    return {
        name: hashlib.sha256(b"".join(tensor.detach().numpy().tobytes() for tensor in tensors)).hexdigest()
        for name, tensors in data.items()
    }


def test_a_cpu_without_vectors_draws_the_same_data() -> None:
    """torch without vectors against torch with those of this CPU."""
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, env=environment, cwd=root
    )
    capability, other = json.loads(result.stdout)
    assert capability in ("DEFAULT", "NO AVX")
    assert other == digests()
