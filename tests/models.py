"""Small models to quantize: plain torch modules with every way of sharing, and tiny Phi-3 and GPT-2 from their configs;
and the quantized layer of a given weight.

Nothing is downloaded; weights are random from a fixed seed.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, Phi3Config, Phi3ForCausalLM

from quant.modules import QuantizedLinear, quantized_linear
from quant.schemes import Scheme
from tests.strategies import bits, normal

ModelT = TypeVar("ModelT", bound=nn.Module)
VOCAB_SIZE = 512


def seeded(build: Callable[[], ModelT], seed: int = 0) -> ModelT:
    """`build()` with random weights that are the same on every CPU; the caller's random state is left as it was.

    torch initialises with the CPU's vectors, so every parameter that is not constant is drawn again, as normal noise as
    wide as it was (to a power of two, which the last bits of its initial values cannot change).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build()
    for index, parameter in enumerate(model.parameters()):
        values = parameter.detach()
        if values.min() != values.max():
            std = 2.0 ** round(math.log2(values.std()))
            values.copy_(normal(values.shape, seed + index, std))
    return model


def tiny_phi3(tied: bool = False, **changes: int) -> Any:
    """Phi-3 with fused qkv_proj and gate_up_proj and grouped queries, 9 linear layers; the head shares the embedding if
    `tied`; `changes` to its configuration.
    """
    config = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "original_max_position_embeddings": 256,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "tie_word_embeddings": tied,
    }
    return seeded(lambda: Phi3ForCausalLM(Phi3Config(**{**config, **changes}))).eval()


def tiny_gpt2() -> nn.Module:
    """GPT-2: all inner layers are Conv1D, whose weight is transposed; c_proj of the attention is square."""
    config = GPT2Config(
        vocab_size=VOCAB_SIZE, n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2
    )
    model: nn.Module = seeded(lambda: GPT2LMHeadModel(config)).eval()
    return model


def tokens(batch: int = 2, length: int = 12) -> Tensor:
    """Token ids [batch, length] of a fixed stream."""
    return torch.randint(3, VOCAB_SIZE, (batch, length), generator=torch.Generator().manual_seed(7))


def layer_of(weight: Tensor, scheme: Scheme, bias: Tensor | None = None) -> QuantizedLinear:
    """The quantized layer of a float layer with this `weight` [out, in] and `bias` [out]."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(weight)
    linear.register_parameter("bias", None if bias is None else nn.Parameter(bias))
    return quantized_linear(linear, scheme)


class Layers(nn.Module):
    """`count` linear layers named layers.0, layers.1, ... and a head named lm_head."""

    def __init__(self, count: int = 2, width: int = 16) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(count))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.lm_head = nn.Linear(width, 11, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        hidden: Tensor = self.embed(ids)
        for layer in self.layers:
            hidden = hidden + torch.relu(layer(hidden))
        logits: Tensor = self.lm_head(self.norm(hidden))
        return logits


class Shared(nn.Module):
    """One linear layer under two names, and one whose weight is an embedding's."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = self.first
        self.embedding = nn.Embedding(8, 8)
        self.tied = nn.Linear(8, 8, bias=False)
        self.tied.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.tied(self.second(self.first(x)))
        return y


def snapshot(model: nn.Module) -> tuple[dict[str, int], dict[str, list[int]]]:
    """Which module objects and which bits a model consists of."""
    modules = {name: id(module) for name, module in model.named_modules()}
    return modules, {name: bits(tensor.reshape(-1)) for name, tensor in model.state_dict().items()}
