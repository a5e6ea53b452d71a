"""Quantizing on disk stores what quantizing in memory and saving would have stored, bit for bit."""

import itertools
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import Phi3ForCausalLM

from quant.assignment import assign
from quant.checkpoint.folder import SINGLE, open_checkpoint
from quant.checkpoint_quantization import plan_jobs, quantize_checkpoint
from quant.convert import quantize
from quant.dtypes import MODEL_DTYPES
from quant.integrations.transformers import load_model
from quant.schemes import INT4, NF4, SCHEMES
from quant.variants import quantize_as
from tests.checkpoints import load, save
from tests.models import Shared, tokens
from tests.unit.folders import FLOAT_FOLDERS, check_equal, configure, tensors_of

PAIRS = [
    (model, scheme, tuple(MODEL_DTYPES)[(row + column) % 3])
    for row, model in enumerate(FLOAT_FOLDERS)
    for column, scheme in enumerate(SCHEMES)
]
"""Every two of (model, scheme, dtype) together at least once."""
ONCE = [
    (tuple(FLOAT_FOLDERS)[index % len(FLOAT_FOLDERS)], tuple(SCHEMES)[index % len(SCHEMES)])
    for index in range(max(len(FLOAT_FOLDERS), len(SCHEMES)))
]
"""Every model and every scheme at least once."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Smaller than any weight of these models, and no multiple of their rows."""
    monkeypatch.setattr("quant.checkpoint.tensor_jobs.CHUNK_ELEMENTS", 1000)


@pytest.mark.parametrize(("model", "scheme", "dtype"), PAIRS)
def test_the_tensors_are_those_of_quantizing_in_memory(
    float_folders: dict[str, Path], model: str, scheme: str, dtype: str, tmp_path: Path
) -> None:
    quantize_checkpoint(str(float_folders[model]), tmp_path / "out", scheme, dtype=dtype)
    in_memory = quantize(load_model(float_folders[model], MODEL_DTYPES[dtype]), SCHEMES[scheme])
    check_equal(tensors_of(tmp_path / "out"), tensors_of(save(in_memory, tmp_path / "in-memory")))


def test_every_two_of_model_scheme_and_dtype_are_among_the_cases() -> None:
    for first, second in itertools.combinations((FLOAT_FOLDERS, tuple(SCHEMES), tuple(MODEL_DTYPES)), 2):
        for pair in itertools.product(first, second):
            assert any(set(pair) <= set(case) for case in PAIRS), pair


@pytest.mark.parametrize(("model", "scheme"), ONCE)
def test_from_pretrained_loads_the_folder_as_the_model_that_was_quantized_in_memory(
    float_folders: dict[str, Path], model: str, scheme: str, tmp_path: Path
) -> None:
    quantize_checkpoint(str(float_folders[model]), tmp_path / "out", scheme)
    loaded = load(tmp_path / "out")
    in_memory = load(float_folders[model])
    quantize(in_memory, SCHEMES[scheme])
    check_equal(loaded.state_dict(), in_memory.state_dict())
    assert torch.equal(loaded(tokens()).logits, in_memory(tokens()).logits)
    assert loaded.config.to_diff_dict() | {"_name_or_path": ""} == in_memory.config.to_diff_dict() | {
        "_name_or_path": ""
    }


def test_the_head_too_where_the_scheme_says_so(float_folders: dict[str, Path], tmp_path: Path) -> None:
    made = quantize_checkpoint(str(float_folders["phi3"]), tmp_path / "out", "w8a16-full")
    in_memory = load_model(float_folders["phi3"], torch.float32)
    quantize_as("w8a16-full", in_memory)
    check_equal(tensors_of(tmp_path / "out"), tensors_of(save(in_memory, tmp_path / "in-memory")))
    assert list(made.assignment.schemes)[-1] == "lm_head"


@pytest.mark.parametrize("scheme", [NF4(block_size=32), INT4(block_size=4096)], ids=str)
def test_block_sizes(float_folders: dict[str, Path], scheme: NF4, tmp_path: Path) -> None:
    quantize_checkpoint(str(float_folders["phi3"]), tmp_path / "out", scheme.name, block_size=scheme.block_size)
    in_memory = quantize(load_model(float_folders["phi3"], torch.float32), scheme)
    check_equal(tensors_of(tmp_path / "out"), tensors_of(save(in_memory, tmp_path / "in-memory")))


def test_include_and_exclude_mean_what_they_mean_in_memory(float_folders: dict[str, Path], tmp_path: Path) -> None:
    patterns = {"include": ["*.mlp.*", "lm_head"], "exclude": ["*.down_proj"]}
    made = quantize_checkpoint(str(float_folders["phi3"]), tmp_path / "out", "nf4", **patterns)  # type: ignore[arg-type]
    in_memory = quantize(load_model(float_folders["phi3"], torch.float32), NF4(), **patterns)
    check_equal(tensors_of(tmp_path / "out"), tensors_of(save(in_memory, tmp_path / "in-memory")))
    assert list(made.assignment.schemes) == ["model.layers.0.mlp.gate_up_proj", "lm_head"]


def test_what_an_architecture_keeps_in_float32_stays_so(
    float_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of layers as well, which are not quantized."""
    monkeypatch.setattr(Phi3ForCausalLM, "_keep_in_fp32_modules_strict", ["post*layernorm", "down_proj"])
    monkeypatch.setattr(Phi3ForCausalLM, "_keep_in_fp32_modules", ["o_proj"])
    strict = {"mlp.down_proj.weight", "post_attention_layernorm.weight"}
    for dtype, kept in (("bfloat16", strict), ("float16", {*strict, "self_attn.o_proj.weight"})):
        out = tmp_path / dtype
        quantize_checkpoint(str(float_folders["phi3"]), out, "w8a16", dtype=dtype)
        in_memory = quantize(load_model(float_folders["phi3"], MODEL_DTYPES[dtype]), SCHEMES["w8a16"])
        found = tensors_of(out)
        check_equal(found, tensors_of(save(in_memory, tmp_path / f"{dtype}-in-memory")))
        floats = {name for name, t in found.items() if t.dtype == torch.float32 and not name.endswith("weight_scale")}
        assert floats == {f"model.layers.0.{name}" for name in kept}


@pytest.mark.parametrize("said", ["float16", None])
def test_dtype_auto_is_from_pretraineds(float_folders: dict[str, Path], tmp_path: Path, said: str | None) -> None:
    """What the config says; where it says nothing, that of the first float tensor."""
    folder = shutil.copytree(float_folders["phi3-bfloat16"], tmp_path / "model")
    configure(folder, dtype=said)
    made = quantize_checkpoint(str(folder), tmp_path / "out", "nf4")
    loaded = load(folder, dtype="auto")
    assert f"torch.{made.dtype}" == str(loaded.dtype)
    assert made.dtype == (said or "bfloat16")
    check_equal(tensors_of(tmp_path / "out"), tensors_of(save(quantize(loaded, NF4()), tmp_path / "in-memory")))


def test_a_layer_of_two_names_is_quantized_under_the_one_that_is_stored(tmp_path: Path) -> None:
    model = Shared()
    save_file({f"second.{name}": t.clone() for name, t in model.second.state_dict().items()}, tmp_path / SINGLE)
    checkpoint = open_checkpoint(tmp_path)
    assignment = assign(model, SCHEMES["w8a16"])
    assert list(assignment.schemes) == ["first"]
    jobs = plan_jobs(model, checkpoint, assignment.schemes, dict.fromkeys(checkpoint.tensors, torch.float32))
    made = {tensor.name: tensor.dtype for job in jobs for tensor in job.outputs}
    floats = dict.fromkeys(("second.weight_scale", "second.bias"), torch.float32)
    assert made == {"second.weight": torch.int8, **floats}
