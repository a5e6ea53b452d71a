"""Bytes over unique storages: what is shared counts once, what hangs on a parameter counts, and the sum is the analytic
one.
"""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from quant.convert import quantize
from quant.evaluate.footprint import footprint, tensors_of
from quant.schemes import NF4, W8A16, Scheme
from tests.strategies import SCHEMES


class Tied(nn.Module):
    """An embedding of 50 x 16 whose weight is the head's, a linear layer of 24 x 16 with bias, and a buffer of 10
    int64.
    """

    counter: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.body = nn.Linear(16, 24)
        self.head = nn.Linear(16, 50, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("counter", torch.zeros(10, dtype=torch.int64))


EMBEDDING, BODY, BIAS, COUNTER = 4 * 50 * 16, 4 * 16 * 24, 4 * 24, 8 * 10


def test_tied_weights_count_once() -> None:
    size = footprint(Tied())
    assert (size.parameter_bytes, size.buffer_bytes) == (EMBEDDING + BODY + BIAS, COUNTER)
    assert size.total_bytes == EMBEDDING + BODY + BIAS + COUNTER
    untied = Tied()
    untied.head = nn.Linear(16, 50, bias=False)
    assert footprint(untied).parameter_bytes == 2 * EMBEDDING + BODY + BIAS


def test_the_tensors_that_count_are_listed() -> None:
    """Codes and scales among them, and what hangs on a parameter; one that two modules share, for each."""
    model = Tied()
    quantize(model, W8A16())
    attached = torch.zeros(3)
    vars(model.embedding.weight)["table"] = attached
    found = {tensor.data_ptr() for tensor in tensors_of(model)}
    assert found == {tensor.data_ptr() for tensor in (*model.state_dict().values(), attached)}
    assert sum(tensor is model.head.weight for tensor in tensors_of(model)) == 2


def test_bytes_by_dtype_add_up_and_the_largest_comes_first() -> None:
    model = Tied()
    model.body.half()
    size = footprint(model)
    assert list(size.by_dtype.items()) == [("float32", EMBEDDING), ("float16", (BODY + BIAS) // 2), ("int64", COUNTER)]
    assert sum(size.by_dtype.values()) == size.total_bytes


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_quantized_layers_are_parameters_of_the_schemes_size(scheme: Scheme, device: str) -> None:
    with torch.device(device):
        model = quantize(Tied(), scheme)
    size = footprint(model)
    assert size.parameter_bytes == EMBEDDING + scheme.storage_bytes(24, 16) + BIAS
    assert size.buffer_bytes == COUNTER
    assert sum(size.by_dtype.values()) == size.total_bytes
    assert size.by_dtype["int8" if isinstance(scheme, W8A16) else "uint8"] >= 24 * 16 * scheme.bits // 8


def test_a_layer_under_two_names_counts_once() -> None:
    model = nn.Sequential(nn.Linear(16, 24, bias=False), nn.Linear(24, 16, bias=False))
    model.append(model[0])
    assert footprint(model).total_bytes == 2 * BODY
    quantize(model, W8A16())
    assert footprint(model).total_bytes == W8A16().storage_bytes(24, 16) + W8A16().storage_bytes(16, 24)


def test_views_of_one_storage_count_it_once() -> None:
    flat = torch.zeros(100)
    model = nn.ParameterList([nn.Parameter(flat[:40].view(4, 10)), nn.Parameter(flat[40:])])
    assert footprint(model).total_bytes == 400


def test_a_parameter_that_keeps_a_larger_storage_alive_counts_all_of_it() -> None:
    assert footprint(nn.ParameterList([nn.Parameter(torch.zeros(1000)[:10])])).total_bytes == 4000


def test_buffers_that_are_not_saved_count_too() -> None:
    module = nn.Module()
    module.register_buffer("table", torch.zeros(48), persistent=False)
    assert footprint(module).buffer_bytes == 192


def test_a_model_that_was_never_loaded_has_a_size() -> None:
    """A layer of 100,000 x 100,000 in bfloat16, without its 20 GB; tied weights stay tied on the meta device."""
    with torch.device("meta"):
        layer = nn.Linear(100_000, 100_000, bias=False, dtype=torch.bfloat16)
        assert footprint(layer).by_dtype == {"bfloat16": 20_000_000_000}
        assert footprint(Tied()).parameter_bytes == EMBEDDING + BODY + BIAS


def bnb_like_parameter() -> nn.Parameter:
    """Codes as a parameter, with absmax, a code table, and a nested state of a double quantization as attributes of
    attributes.
    """
    parameter = nn.Parameter(torch.zeros(512, 1, dtype=torch.uint8), requires_grad=False)
    code = torch.zeros(16)
    nested = SimpleNamespace(absmax=torch.zeros(1), code=torch.zeros(256))
    state = SimpleNamespace(
        absmax=torch.zeros(16, dtype=torch.uint8), code=code, offset=torch.zeros(()), state2=nested, blocksize=64
    )
    vars(parameter).update(
        quant_state=state, code_again=code, quant_type="nf4", owner=nn.Linear(100, 100), kind=torch.Tensor
    )
    return parameter


def test_tensors_attached_to_a_parameter_count_once_and_modules_there_do_not() -> None:
    expected = 512 + 16 + 4 * (16 + 1 + 1 + 256)
    size = footprint(nn.ParameterList([bnb_like_parameter()]))
    assert (size.parameter_bytes, size.buffer_bytes) == (expected, 0)
    assert size.by_dtype == {"float32": 4 * (16 + 1 + 1 + 256), "uint8": 512 + 16}


def test_attributes_that_refer_to_each_other_end() -> None:
    parameter = bnb_like_parameter()
    state = vars(parameter)["quant_state"]
    state.parent, state.state2.parent = state, parameter
    assert footprint(nn.ParameterList([parameter])).total_bytes == 512 + 16 + 4 * (16 + 1 + 1 + 256)


def test_measuring_changes_nothing() -> None:
    model = quantize(Tied(), NF4())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert footprint(model) == footprint(model)
    after = model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_a_module_without_tensors_has_no_bytes() -> None:
    size = footprint(nn.ReLU())
    assert (size.total_bytes, size.by_dtype) == (0, {})
