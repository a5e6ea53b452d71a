"""The jobs of one tensor: in chunks of any size, the codes are those of `quantize_tensor` for the whole."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from quant.checkpoint.folder import SINGLE, open_checkpoint
from quant.checkpoint.headers import StoredTensor
from quant.checkpoint.plan import Job, Plan
from quant.checkpoint.reading import Inputs
from quant.checkpoint.run import run
from quant.checkpoint.tensor_jobs import cast_job, quantize_job
from quant.errors import QuantError
from quant.schemes import INT4, NF4, SCHEMES, W8A16, Scheme
from quant.tensor import quantize_tensor
from tests.strategies import normal
from tests.unit.folders import check_equal

SHAPES = [(33, 130), (1, 1), (3, 5), (64, 64), (1, 4097), (200, 1)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


def job_of(stored: StoredTensor, kind: str, scheme: Scheme, dtype: torch.dtype) -> Job:
    """kind: "plain" or "transposed", to quantize; "cast", or "finite" for a parameter."""
    if kind in ("cast", "finite"):
        return cast_job(stored, dtype, kind == "finite")
    return quantize_job(stored, "layer", scheme, dtype, kind == "transposed")


def made(folder: Path, weight: Tensor, kind: str, scheme: Scheme, dtype: torch.dtype) -> dict[str, Tensor]:
    """What the job yields, put together."""
    save_file({"layer.weight": weight}, folder / SINGLE)
    with Inputs(open_checkpoint(folder)) as inputs:
        job = job_of(inputs["layer.weight"], kind, scheme, dtype)
        made = {tensor.name: torch.empty(tensor.shape, dtype=tensor.dtype) for tensor in job.outputs}
        filled = dict.fromkeys(made, 0)
        for name, values in job.produce(inputs):
            assert values.dtype == made[name].dtype
            made[name].view(-1)[filled[name] : filled[name] + values.numel()] = values.view(-1)
            filled[name] += values.numel()
    assert filled == {name: tensor.numel() for name, tensor in made.items()}
    return made


@pytest.mark.parametrize("chunk", [1, 100, 4096])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "scheme", [*SCHEMES.values(), NF4(block_size=4096), INT4(block_size=32, double_quant=True)], ids=str
)
def test_chunks_have_the_codes_of_the_whole(
    source: Path, scheme: Scheme, shape: tuple[int, int], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quant.checkpoint.tensor_jobs.CHUNK_ELEMENTS", chunk)
    weight = normal(shape, 5, 1.0)
    expected = {f"layer.{key}": part for key, part in quantize_tensor(weight, scheme).stored.items()}
    check_equal(made(source, weight, "plain", scheme, torch.float32), expected)


@pytest.mark.parametrize("kind", ["plain", "transposed"])
def test_a_run_writes_what_a_job_yields(source: Path, kind: str) -> None:
    weight = normal((33, 130), 5, 1.0)
    scheme = NF4(double_quant=True)
    expected = made(source, weight, kind, scheme, torch.float32)
    checkpoint = open_checkpoint(source)
    job = job_of(checkpoint.tensors["layer.weight"], kind, scheme, torch.float32)
    run(Plan((job,), sharded=False, settings={}), checkpoint, source.parent / "out")
    check_equal(load_file(source.parent / "out" / SINGLE), expected)


@pytest.mark.parametrize("groups", [1, 2, 100])
def test_double_quantization_in_chunks_has_the_codes_of_the_whole(
    source: Path, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """813 absmax values, four groups of which the last is short: the mean is that of all."""
    monkeypatch.setattr("quant.checkpoint.tensor_jobs.CHUNK_ELEMENTS", 1000)
    monkeypatch.setattr("quant.checkpoint.tensor_jobs.ABSMAX_CHUNK", 256 * groups)
    weight, scheme = normal((200, 130), 8, 1.0), NF4(32, double_quant=True)
    weight[100:] *= 3
    expected = {f"layer.{key}": part for key, part in quantize_tensor(weight, scheme).stored.items()}
    assert expected["layer.weight_absmax_scale"].shape == (4,)
    check_equal(made(source, weight, "plain", scheme, torch.float32), expected)


@pytest.mark.parametrize("scheme", [W8A16(), NF4()], ids=str)
def test_scales_are_yielded_with_their_codes(source: Path, scheme: Scheme, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not kept until the tensor ends."""
    monkeypatch.setattr("quant.checkpoint.tensor_jobs.CHUNK_ELEMENTS", 128)
    save_file({"layer.weight": torch.ones(8, 64)}, source / SINGLE)
    with Inputs(open_checkpoint(source)) as inputs:
        job = job_of(inputs["layer.weight"], "plain", scheme, torch.float32)
        names = [name.removeprefix("layer.weight") for name, _ in job.produce(inputs)]
    scale = "_scale" if isinstance(scheme, W8A16) else "_absmax"
    assert names[:8] == ["", scale] * 4


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_a_transposed_weight_has_the_codes_of_the_matrix(
    source: Path, scheme: Scheme, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quant.checkpoint.tensor_jobs.CHUNK_ELEMENTS", 100)
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
    monkeypatch.setattr("quant.checkpoint.tensor_jobs.CHUNK_ELEMENTS", 100)
    weight = torch.randn(shape)
    check_equal(made(source, weight, "cast", W8A16(), torch.bfloat16), {"layer.weight": weight.bfloat16()})


def test_a_cast_keeps_what_was_not_finite_before(source: Path) -> None:
    """As `from_pretrained` does: buffers may be masks."""
    weight = torch.tensor([1.0, float("inf"), float("-inf"), float("nan")])
    found = made(source, weight, "cast", W8A16(), torch.float16)["layer.weight"]
    assert torch.equal(found.view(torch.int16), weight.half().view(torch.int16))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_parameter_that_is_not_finite_is_refused(
    source: Path, dtype: torch.dtype, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quant.checkpoint.tensor_jobs.CHUNK_ELEMENTS", 2)
    weight = torch.tensor([1.0, 2.0, value])
    with pytest.raises(QuantError, match=r"tensor layer\.weight has NaN or infinite values, .*: repair the checkpoint"):
        made(source, weight, "finite", W8A16(), dtype)


def test_a_parameter_of_integers_is_copied(source: Path) -> None:
    weight = torch.arange(3)
    check_equal(made(source, weight, "finite", W8A16(), torch.int64), {"layer.weight": weight})


@pytest.mark.parametrize("kind", ["cast", "finite"])
def test_a_cast_that_would_make_values_infinite_is_refused(source: Path, kind: str) -> None:
    weight = torch.tensor([1.0, 70000.0])
    with pytest.raises(
        QuantError, match=r"model\.safetensors: tensor layer\.weight has values beyond the range of float16"
    ):
        made(source, weight, kind, W8A16(), torch.float16)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")], ids=str)
@pytest.mark.parametrize("job", ["plain", "transposed"])
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_a_weight_that_is_not_finite_is_refused_with_its_tensor(
    source: Path, scheme: Scheme, job: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the last chunk, when others have been written."""
    monkeypatch.setattr("quant.checkpoint.tensor_jobs.CHUNK_ELEMENTS", 64)
    weight = torch.ones(16, 64)
    weight[-1, -1] = value
    with pytest.raises(QuantError, match=r"tensor layer\.weight has NaN or infinite values in float32: repair"):
        made(source, weight, job, scheme, torch.float32)


def test_a_weight_beyond_the_models_dtype_is_refused(source: Path) -> None:
    with pytest.raises(QuantError, match=r"tensor layer\.weight has NaN or infinite values in float16.*another dtype"):
        made(source, torch.full((2, 2), 1e5), "plain", W8A16(), torch.float16)
