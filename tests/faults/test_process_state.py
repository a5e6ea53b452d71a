"""Nothing that belongs to the whole process is left changed (I6): settings of torch, random states, warnings,
environment, other libraries. `conftest.py` watches a few of these in every test; here is a longer list, around one use
of everything.
"""

import logging
import os
import random
import signal
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers.modeling_utils
from torch import nn

import quant
from quant.checkpoint_quantization import quantize_checkpoint
from quant.evaluate.perplexity import perplexity
from quant.evaluate.windows import TokenWindows
from quant.integrations.transformers import load_model
from quant.schemes import NF4, W8A16
from tests.checkpoints import load, save
from tests.models import Layers, seeded, tiny_phi3, tokens
from tests.strategies import SCHEMES, bits, normal


def process_state() -> dict[str, object]:
    backends = torch.backends
    return {
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "TF32 of cuDNN": backends.cudnn.allow_tf32,
        "cuDNN": (backends.cudnn.enabled, backends.cudnn.benchmark, backends.cudnn.deterministic),
        "oneDNN": (backends.mkldnn.enabled, backends.mkldnn.deterministic),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "torch's random state": bits(torch.get_rng_state()),
        "Python's random state": random.getstate(),
        "numpy's random state": [str(part) for part in np.random.get_state()],
        "warnings": list(warnings.filters),
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "path": list(sys.path),
        "hooks": (sys.excepthook, sys.displayhook, torch.nn.modules.module._global_forward_hooks.copy()),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "logging": (logging.getLogger().level, len(logging.getLogger().handlers)),
        "transformers": {name: id(value) for name, value in vars(transformers.modeling_utils).items()},
        "PreTrainedModel": {name: id(value) for name, value in vars(transformers.PreTrainedModel).items()},
        "verbosity": transformers.logging.get_verbosity(),
        "torch.nn": {name: id(value) for name, value in vars(nn.Linear).items()},
    }


def use_everything(folder: Path) -> None:
    for scheme in SCHEMES:
        quant.quantize_tensor(normal((8, 64)), scheme).dequantize()
        model: Any = quant.quantize(seeded(Layers), scheme)
        model(torch.arange(3)[None]).sum().backward()
        quant.dequantize(model)
    float_folder = save(tiny_phi3(num_hidden_layers=1), folder / "float")
    loaded = load(float_folder, quantization_config=quant.NF4Config())
    load(save(loaded, folder / "saved")).generate(tokens(1, 4), max_new_tokens=2, do_sample=False, pad_token_id=0)
    perplexity(load_model(float_folder, torch.bfloat16), TokenWindows(tokens(1, 20)[0], 8))
    quantize_checkpoint(str(float_folder), folder / "out", "w8a16")


def test_i6_using_everything_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    before = process_state()
    use_everything(tmp_path)
    after = process_state()
    assert {name for name, value in before.items() if after[name] != value} == set()


def test_i6_threads_of_the_caller_quantize_and_compute_as_one_does() -> None:
    """Four models at a time, of two schemes."""

    def work(index: int, model: nn.Module) -> list[int]:
        quant.quantize(model, W8A16() if index % 2 else NF4(32))
        with torch.no_grad():
            return bits(model(torch.arange(11)[None]))

    expected, models = ([seeded(lambda: Layers(3, 64), index) for index in range(8)] for _ in range(2))
    alone = [work(index, model) for index, model in enumerate(expected)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(8), models)) == alone
