"""Random weights with a spread like that of trained models, piece by piece: any rows of any tensor, in any order.

A weight is normal noise times a scale per row (log-normal) and, in a few columns, a factor: rows differ and columns
stand out in trained models, and block scales and row scales would have it too easy without. How wide the noise is
follows from what a layer is to make of an input of mean square 1 (`GAINS`, which come to standard deviations of 0.014
to 0.036 at Phi-3-mini's widths, 0.04 for the embedding: the order of magnitude of models of this family). Layers before
the residual stream add a little more the deeper they lie, so it grows with depth without exploding, and logits come out
a few units wide.

Every piece has a random stream of its own, so they can be drawn in parallel, come out the same however many workers
draw them, and none repeats another. torch draws float32 normals with the CPU's vectors: other CPUs may give other last
bits.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

GAINS = {
    "self_attn.qkv_proj": (2.0, 1.4),
    "self_attn.o_proj": (0.8, 1.4),
    "mlp.gate_up_proj": (1.4, 1.6),
    "mlp.down_proj": (1.3, 2.2),
    "lm_head": (1.7, 1.7),
}
"""Root mean square of a layer's output where its input's is 1, in the first and in the last layer; linear in between.
"""
EMBEDDING_STD = 0.04
ROW_SPREAD = 0.25
NORM_SPREAD = 0.2
"""Standard deviations of logarithms."""
OUTLIER_COLUMNS = 512
"""One column in so many stands out, at least one."""
OUTLIER_FACTOR = 5.0


@dataclass(frozen=True)
class Weight:
    """One tensor: its name in the checkpoint, its shape ([width] of a norm, else [rows, columns]), how many layers the
    model has, and the seed of the whole checkpoint.
    """

    name: str
    shape: tuple[int, ...]
    layers: int
    seed: int

    def rows(self, first: int, last: int) -> Tensor:
        """bfloat16 [last - first, columns]: these rows; of a norm, whose rows are its elements, [last - first]."""
        if len(self.shape) == 1:
            return (self._normal("norm", last - first) * NORM_SPREAD).exp_().bfloat16()
        values = self._normal(f"rows {first}", last - first, self.shape[1])
        values *= self._row_scales[first:last, None]
        values[:, self._outliers] *= OUTLIER_FACTOR
        return values.bfloat16()

    @cached_property
    def _row_scales(self) -> Tensor:
        return (self._normal("scales", self.shape[0]) * ROW_SPREAD).exp_() * self.std

    @cached_property
    def _outliers(self) -> Tensor:
        columns = self.shape[1]
        order = torch.randperm(columns, generator=self._generator("outliers"))
        return order[: max(1, columns // OUTLIER_COLUMNS)]

    @property
    def std(self) -> float:
        """Of the noise, before rows are scaled."""
        module = self.name.removesuffix(".weight")
        depth = 0.0
        if module.startswith("model.layers."):
            index, module = module.removeprefix("model.layers.").split(".", 1)
            depth = int(index) / max(1, self.layers - 1)
        if module == "model.embed_tokens":
            return EMBEDDING_STD
        first, last = GAINS[module]
        return float((first + depth * (last - first)) / self.shape[1] ** 0.5)

    def _normal(self, what: str, *shape: int) -> Tensor:
        return torch.empty(shape).normal_(generator=self._generator(what))

    def _generator(self, what: str) -> torch.Generator:
        digest = hashlib.sha256(f"{self.seed} {self.name} {what}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
