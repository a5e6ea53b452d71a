"""How much of a decode step is not linear layers: norms, rotary embeddings, attention, cache, and Python between them.

Hooks before and after every linear layer take the time; two of them cost about a microsecond per layer, which counts as
outside.
"""

import itertools
import statistics
import time
from typing import Any

from torch import Tensor, nn

from quant.integrations.bitsandbytes import is_quantized_linear
from quant.linears import is_linear
from quant.modules import QuantizedLinear
from tests.full_size.generating import Clock, random_prompt, token_seconds
from tests.full_size.variants import Sizes


class Layers(Clock):
    """Notes, beside when a token comes, the seconds spent in linear layers until then, the head's apart."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.inside: list[float] = []
        self.head: list[float] = []
        self._spent, self._spent_in_head, self._began = 0.0, 0.0, 0.0
        head = model.get_output_embeddings()
        self._handles = []
        for module in model.modules():
            if is_linear(module) or isinstance(module, QuantizedLinear) or is_quantized_linear(module):
                self._handles.append(module.register_forward_pre_hook(self._enter))
                self._handles.append(module.register_forward_hook(self._leave_head if module is head else self._leave))

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        self._began = time.perf_counter()

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._spent += time.perf_counter() - self._began

    def _leave_head(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._spent_in_head += time.perf_counter() - self._began

    def put(self, tokens: Tensor) -> None:
        super().put(tokens)
        self.inside.append(self._spent)
        self.head.append(self._spent_in_head)

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()


def measure_outside(model: Any, sizes: Sizes, repeats: int) -> dict[str, Any]:
    """Medians over the decode steps of `repeats` calls, in seconds per token: the step, the layers but the head, the
    head, and the rest of the step; layers: how many, with the head.
    """
    prompt = random_prompt(model, sizes.prompt)
    token_seconds(model, prompt, 2)
    steps: list[tuple[float, float, float]] = []
    for _ in range(repeats):
        layers = Layers(model)
        try:
            decode = token_seconds(model, prompt, sizes.new_tokens, layers)[1:]
        finally:
            layers.remove()
        steps += zip(decode, _steps(layers.inside), _steps(layers.head), strict=True)
    return {
        "step_seconds": statistics.median(step for step, _, _ in steps),
        "layer_seconds": statistics.median(inside for _, inside, _ in steps),
        "head_seconds": statistics.median(head for _, _, head in steps),
        "outside_seconds": statistics.median(step - inside - head for step, inside, head in steps),
        "layers": len(layers._handles) // 2,
    }


def _steps(totals: list[float]) -> list[float]:
    """What each decode step added to totals taken at the prompt, the first token, and each token after it."""
    return [later - earlier for earlier, later in itertools.pairwise(totals[1:])]
