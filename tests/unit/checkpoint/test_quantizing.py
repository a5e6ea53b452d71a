"""The jobs of one tensor: in chunks of any size, the codes are those of `quantize_tensor` for the whole."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from quant.checkpoint.folder import SINGLE, open_checkpoint
from quant.checkpoint.plan import Job, Plan
from quant.checkpoint.quantizing import cast_job, quantize_job
from quant.checkpoint.run import run
from quant.errors import QuantError
from quant.schemes import INT4, NF4, SCHEMES, W8A16, Scheme
from quant.tensor import quantize_tensor
from tests.strategies import normal

SHAPES = [(33, 130), (1, 1), (3, 5), (64, 64), (1, 4097), (200, 1)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


def made(folder: Path, weight: Tensor, job: str, scheme: Scheme, dtype: torch.dtype) -> dict[str, Tensor]:
    """What a run of one job writes."""
    save_file({"layer.weight": weight}, folder / SINGLE)
    checkpoint = open_checkpoint(folder)
    stored = checkpoint.tensors["layer.weight"]
    only: Job = (
        cast_job(stored, dtype) if job == "cast" else quantize_job(stored, "layer", scheme, dtype, job == "transposed")
    )
    out = folder.parent / "out"
    run(Plan((only,), sharded=False, settings={}), checkpoint, out)
    return load_file(out / SINGLE)


def check_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("chunk", [1, 100, 4096])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "scheme", [*SCHEMES.values(), NF4(block_size=4096), INT4(block_size=32, double_quant=True)], ids=str
)
def test_chunks_have_the_codes_of_the_whole(
    source: Path, scheme: Scheme, shape: tuple[int, int], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quant.checkpoint.quantizing.CHUNK_ELEMENTS", chunk)
    weight = normal(shape, 5, 1.0)
    expected = {f"layer.{key}": part for key, part in quantize_tensor(weight, scheme).stored.items()}
    check_equal(made(source, weight, "plain", scheme, torch.float32), expected)


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_a_transposed_weight_is_turned_round(source: Path, scheme: Scheme, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quant.checkpoint.quantizing.CHUNK_ELEMENTS", 100)
    weight = normal((33, 130), 6, 1.0)
    expected = {f"layer.{key}": part for key, part in quantize_tensor(weight, scheme).stored.items()}
    check_equal(made(source, weight.t().contiguous(), "transposed", scheme, torch.float32), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("scheme", [W8A16(), NF4()], ids=str)
def test_the_codes_are_those_of_the_weight_in_the_models_dtype(
    source: Path, scheme: Scheme, stored: torch.dtype, dtype: torch.dtype
) -> None:
    weight = normal((33, 130), 7, 1.0).double().add(1e-4).to(stored)
    expected = {f"layer.{key}": part for key, part in quantize_tensor(weight.to(dtype), scheme).stored.items()}
    check_equal(made(source, weight, "plain", scheme, dtype), expected)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)], ids=str)
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_a_weight_without_elements_is_stored_like_any(source: Path, scheme: Scheme, shape: tuple[int, int]) -> None:
    weight = torch.zeros(shape)
    expected = {f"layer.{key}": part for key, part in quantize_tensor(weight, scheme).stored.items()}
    check_equal(made(source, weight, "plain", scheme, torch.float32), expected)


@pytest.mark.parametrize("shape", [(), (0,), (333,), (3, 4, 5)], ids=str)
def test_other_tensors_are_cast(source: Path, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quant.checkpoint.quantizing.CHUNK_ELEMENTS", 100)
    weight = torch.randn(shape)
    check_equal(made(source, weight, "cast", W8A16(), torch.bfloat16), {"layer.weight": weight.bfloat16()})


def test_a_cast_keeps_what_was_not_finite_before(source: Path) -> None:
    """As `from_pretrained` does; masks are stored so."""
    weight = torch.tensor([1.0, float("inf"), float("-inf"), float("nan")])
    found = made(source, weight, "cast", W8A16(), torch.float16)["layer.weight"]
    assert torch.equal(found.view(torch.int16), weight.half().view(torch.int16))


def test_a_cast_that_would_make_values_infinite_is_refused(source: Path) -> None:
    weight = torch.tensor([1.0, 70000.0])
    with pytest.raises(
        QuantError, match=r"model\.safetensors: tensor layer\.weight has values beyond the range of float16"
    ):
        made(source, weight, "cast", W8A16(), torch.float16)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")], ids=str)
@pytest.mark.parametrize("job", ["plain", "transposed"])
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_a_weight_that_is_not_finite_is_refused_with_its_tensor(
    source: Path, scheme: Scheme, job: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the last chunk, when others have been written."""
    monkeypatch.setattr("quant.checkpoint.quantizing.CHUNK_ELEMENTS", 64)
    weight = torch.ones(16, 64)
    weight[-1, -1] = value
    with pytest.raises(QuantError, match=r"tensor layer\.weight has NaN or infinite values in float32: repair"):
        made(source, weight, job, scheme, torch.float32)
    assert list(source.parent.iterdir()) == [source]


def test_a_weight_beyond_the_models_dtype_is_refused(source: Path) -> None:
    with pytest.raises(QuantError, match=r"tensor layer\.weight has NaN or infinite values in float16.*another dtype"):
        made(source, torch.full((2, 2), 1e5), "plain", W8A16(), torch.float16)
