"""Faults of working together with torch and transformers (I1 to I5) in the parts that no other test holds."""

import copy
import io
import pickle
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import quant
from quant.modules import QuantizedLinear, quantized_linear
from quant.schemes import NF4, W8A16, Scheme
from tests.faults.child import compute
from tests.models import seeded
from tests.strategies import SCHEMES, bits, normal, scheme_id

each_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)


@pytest.mark.parametrize("scheme", [W8A16(), NF4()], ids=scheme_id)
def test_i1_a_model_is_one_graph_for_any_batch_and_length(scheme: Scheme, nothing_compiled: None) -> None:
    """Compiled for the first shape, once more with both sizes left open, and never again."""
    graphs: list[torch.fx.GraphModule] = []

    def backend(module: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        graphs.append(module)
        return module.forward

    # No two widths are equal, so that a fake kernel of another shape does not fit the next layer.
    layers = (nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 7))
    model = quant.quantize(seeded(lambda: nn.Sequential(nn.Embedding(11, 16), *layers)), scheme)
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    for batch, length in ((2, 3), (3, 5), (2, 9), (5, 4), (7, 30)):
        ids = torch.arange(batch * length).remainder(11).view(batch, length)
        with torch.no_grad():
            assert bits(compiled(ids)) == bits(model(ids)), (batch, length)
    assert len(graphs) <= 2


@pytest.mark.parametrize("scheme", [W8A16(), NF4()], ids=scheme_id)
def test_i1_a_checkpointed_layer_is_one_graph_with_the_gradients_of_eager(
    scheme: Scheme, nothing_compiled: None
) -> None:
    layer = quantized_linear(seeded(lambda: nn.Linear(48, 20)), scheme)

    def step(x: Tensor) -> Tensor:
        y: Tensor = checkpoint(lambda hidden: torch.relu(layer(hidden)), x, use_reentrant=False)
        return y.square().sum()

    eager, compiled = (normal((3, 48)).requires_grad_() for _ in range(2))
    compiled_step: Callable[[Tensor], Tensor] = torch.compile(step, fullgraph=True, backend="aot_eager")
    torch.autograd.backward(step(eager))
    torch.autograd.backward(compiled_step(compiled))
    assert eager.grad is not None
    assert compiled.grad is not None
    assert bits(compiled.grad) == bits(eager.grad)


def through_torch_save(layer: QuantizedLinear) -> QuantizedLinear:
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    loaded: QuantizedLinear = torch.load(file, weights_only=False)
    return loaded


COPIES: dict[str, Callable[[QuantizedLinear], QuantizedLinear]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {protocol}": lambda layer, protocol=protocol: pickle.loads(pickle.dumps(layer, protocol))  # type: ignore[misc]
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
    "torch.save": through_torch_save,
    # What torch.multiprocessing makes of a module for another process, with its tensors in shared memory.
    "multiprocessing": lambda layer: ForkingPickler.loads(ForkingPickler.dumps(layer)),
}


def facts(layer: QuantizedLinear) -> tuple[object, ...]:
    """What a layer is: its attributes, apart from those that are tensors or torch's, and the bits of its tensors."""
    own = {name: value for name, value in vars(layer).items() if not isinstance(value, dict)}
    return own, {name: bits(tensor.reshape(-1)) for name, tensor in layer.state_dict().items()}


@each_scheme
@pytest.mark.parametrize("way", COPIES)
def test_i3_a_copy_is_the_same_layer_and_the_original_stays(way: str, scheme: Scheme) -> None:
    layer, x = quantized_linear(seeded(lambda: nn.Linear(33, 7)), scheme).half(), normal((3, 33)).half()
    before, y = facts(layer), bits(layer(x))
    other = COPIES[way](layer)
    assert type(other) is type(layer)
    assert facts(layer) == facts(other) == before
    assert bits(other(x)) == bits(layer(x)) == y


@each_scheme
@pytest.mark.parametrize("way", [way for way in COPIES if way not in ("copy", "multiprocessing")])
def test_i3_a_deep_copy_shares_nothing(way: str, scheme: Scheme) -> None:
    """Also where the copy is cast, which sets attributes, and where its tensors are written to."""
    layer = quantized_linear(seeded(lambda: nn.Linear(33, 7)), scheme)
    before = facts(layer)
    other = COPIES[way](layer)
    with torch.no_grad():
        for tensor in other.state_dict().values():
            tensor.add_(1)
    other.half()
    assert facts(layer) == before


def test_i3_a_layer_computes_the_same_in_another_process() -> None:
    """One that is spawned, as for data loaders and workers: nothing is there but what was sent."""
    layers = [quantized_linear(seeded(lambda: nn.Linear(33, 7)), scheme).half() for scheme in SCHEMES]
    x = normal((3, 33)).half()
    context = torch.multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=compute, args=(sending, layers, x))
    process.start()
    sending.close()  # so that the end of the process, too, ends the waiting
    assert receiving.recv() == [bits(layer(x)) for layer in layers]
    process.join()
    assert process.exitcode == 0


def test_i3_layers_of_two_schemes_in_one_process_do_not_share_their_settings() -> None:
    layers = [quantized_linear(seeded(lambda: nn.Linear(64, 8)), scheme) for scheme in SCHEMES]
    x = normal((3, 64))
    together = [bits(layer(x)) for layer in layers]
    alone = [bits(quantized_linear(seeded(lambda: nn.Linear(64, 8)), scheme)(x)) for scheme in SCHEMES]
    assert together == alone
    assert [layer.scheme for layer in layers] == list(SCHEMES)
    assert not any(isinstance(value, Tensor) for kind in map(type, layers) for value in vars(kind).values())
