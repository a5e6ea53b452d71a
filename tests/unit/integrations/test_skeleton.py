"""What a skeleton says of a checkpoint's tensors where transformers would make exceptions."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from quant.checkpoint.folder import SINGLE, Checkpoint, open_checkpoint
from quant.errors import QuantError
from quant.integrations.skeleton import first_float_dtype, stored_dtypes
from tests.models import tiny_phi3


def checkpoint_of(tensors: dict[str, Tensor], folder: Path) -> Checkpoint:
    save_file(tensors, folder / SINGLE)
    return open_checkpoint(folder)


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_phi3(tied=True, hidden_size=32, intermediate_size=32, num_hidden_layers=1)


@pytest.fixture
def tensors(model: Any) -> dict[str, Tensor]:
    """What save_pretrained would store: a tied weight once."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "lm_head.weight"])
def test_a_tied_weight_may_be_stored_under_either_name(
    model: Any, tensors: dict[str, Tensor], name: str, tmp_path: Path
) -> None:
    tensors[name] = tensors.pop("model.embed_tokens.weight")
    dtypes = stored_dtypes(model, checkpoint_of(tensors, tmp_path), torch.float32)
    assert dtypes == dict.fromkeys(tensors, torch.float32)


def test_a_tensor_may_be_missing_where_the_architecture_says_so(
    model: Any, tensors: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del tensors["model.norm.weight"]
    checkpoint = checkpoint_of(tensors, tmp_path)
    with pytest.raises(QuantError, match=r"has no tensor model\.norm\.weight"):
        stored_dtypes(model, checkpoint, torch.float32)
    monkeypatch.setattr(model, "_keys_to_ignore_on_load_missing", {r"model\.norm"}, raising=False)
    assert stored_dtypes(model, checkpoint, torch.float32).keys() == tensors.keys()


def test_a_buffer_that_is_saved_must_be_there(model: Any, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    """`from_pretrained` would make it up, with a line in its report. One that is never saved is not asked for."""
    model = copy.deepcopy(model)
    model.model.norm.register_buffer("mean", torch.zeros(3))
    model.model.norm.register_buffer("cache", torch.zeros(3), persistent=False)
    with pytest.raises(QuantError, match=r"has no tensor model\.norm\.mean: it is half-written"):
        stored_dtypes(model, checkpoint_of(tensors, tmp_path), torch.float32)
    tensors["model.norm.mean"] = torch.zeros(3)
    assert stored_dtypes(model, checkpoint_of(tensors, tmp_path), torch.float32).keys() == tensors.keys()


def test_a_tensor_that_is_passed_over_keeps_its_dtype(
    model: Any, tensors: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors["mask"] = torch.zeros(3, dtype=torch.bool)
    checkpoint = checkpoint_of(tensors, tmp_path)
    with pytest.raises(QuantError, match=r"tensor mask is not one of Phi3ForCausalLM's"):
        stored_dtypes(model, checkpoint, torch.float32)
    monkeypatch.setattr(model, "_keys_to_ignore_on_load_unexpected", {"^mask$"}, raising=False)
    assert stored_dtypes(model, checkpoint, torch.float32)["mask"] == torch.bool


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        ({"b": torch.float16, "a": torch.bfloat16}, torch.bfloat16),
        ({"a": torch.int64, "b": torch.float16}, torch.float16),
        ({"a": torch.float8_e4m3fn, "b": torch.float64}, torch.float64),
        ({"a": torch.int8}, torch.float32),
    ],
    ids=["first by name", "after an integer", "after 8 bits", "no floats"],
)
def test_the_first_float_dtype(dtypes: dict[str, torch.dtype], expected: torch.dtype, tmp_path: Path) -> None:
    checkpoint = checkpoint_of({name: torch.zeros(2).to(dtype) for name, dtype in dtypes.items()}, tmp_path)
    assert first_float_dtype(checkpoint) == expected
