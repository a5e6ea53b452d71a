"""What is measured, as data: the models that are compared and the parts of a measurement. Imports no torch: the process
that starts all others reads this, and stays small so that their peaks of memory are seen.

Names without a suffix compute in bfloat16, `-fp32` in float32 (embedding, head and norms as well).
"""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Variant:
    """dtype: of activations and of what is not quantized; scheme: as on quant's command line, None for float models."""

    dtype: str
    scheme: str | None = None

    @property
    def is_ours(self) -> bool:
        """Whether `quant quantize` makes it."""
        return self.scheme is not None and not self.scheme.startswith("bnb-")


VARIANTS = {
    "float32": Variant("float32"),
    "bf16": Variant("bfloat16"),
    "w8a16": Variant("bfloat16", "w8a16"),
    "w8a16-full": Variant("bfloat16", "w8a16-full"),
    "nf4": Variant("bfloat16", "nf4"),
    "nf4-dq": Variant("bfloat16", "nf4-dq"),
    "w8a16-fp32": Variant("float32", "w8a16"),
    "nf4-fp32": Variant("float32", "nf4"),
    "bnb-nf4": Variant("bfloat16", "bnb-nf4"),
}
"""In the order in which a round visits them."""
QUANTIZED = ("w8a16", "w8a16-full", "nf4", "nf4-dq")
PARTS = {
    "quantize": QUANTIZED,
    "generate": tuple(VARIANTS),
    "compile": ("bf16", "w8a16", "nf4", "nf4-dq"),
    "outside": ("bf16", "w8a16", "nf4"),
}
"""Part -> what it is measured for, in the order in which they run."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured: tokens of the prompt that decoding follows, of the long prompt, and to generate; rounds:
    how often every variant is visited; threads: of torch.
    """

    prompt: int = 64
    long_prompt: int = 512
    new_tokens: int = 16
    rounds: int = 3
    threads: int = 2


@dataclass(frozen=True)
class Task:
    """What one process measures, and nothing else.

    part, variant: keys of `PARTS` and `VARIANTS`; folder: the bfloat16 checkpoint; quantized: the folder to load one of
    ours from, None to quantize `folder` after loading it; repeats: within the process.
    """

    part: str
    variant: str
    folder: str
    quantized: str | None
    repeats: int
    sizes: Sizes

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Task":
        fields = json.loads(text)
        return cls(**{**fields, "sizes": Sizes(**fields["sizes"])})
