"""What measurements are held to: `references.json`, by model and scheme.

For Phi-3-mini these are the figures of the report that this project grew out of, with limits around them that are
derived as the file says; nobody has measured them with this suite yet. For the embedded model, which the rehearsal
runs, they are measured. What was recorded of a model by itself is another matter (`--update-thresholds`).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("references.json")


@dataclass(frozen=True)
class Limits:
    """What a figure must lie between: log_ratio (of the perplexity ratio), kl in nats per token, top1 a fraction."""

    log_ratio: tuple[float, float]
    kl: tuple[float, float]
    top1: tuple[float, float]

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> "Limits":
        """Raises KeyError or ValueError where `entry` lacks one, or a pair is none."""
        pairs = {}
        for name in cls.__annotations__:
            low, high = entry[name]
            pairs[name] = (float(low), float(high))
        return cls(**pairs)


REFERENCES: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))["models"]
"""Model -> scheme -> entry, as in the file."""


def limits_of(model: str, scheme: str) -> Limits:
    """The limits of `scheme` (any but the baseline) of `model`, one of `REFERENCES`."""
    return Limits.from_json(REFERENCES[model]["schemes"][scheme])


def parameter_bytes_of(model: str, scheme: str) -> int:
    """Bytes of the parameters of `model` as `scheme` in float32, scales and codes among them."""
    size: int = REFERENCES[model]["parameter_bytes"][scheme]
    return size
