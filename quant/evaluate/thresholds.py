"""What was recorded of quantized models, for `quant.evaluate.gates` to hold them to: one JSON file, its only format.

    {"format": 1, "thresholds": {MODEL: {SCHEME: {
        "perplexity_ratio": {"value", "margin"},          # margin: of its logarithm, a fraction
        "kl": {"value", "margin"},                        # nats per token
        "change": {"noise", "baseline_noise"},            # nats, root mean square over windows
        "baseline_perplexity", "top1_agreement",          # for readers; nothing is held to the latter
        "provenance": {...},                              # text, windows, versions, machine, seed, command
        "windows": {"tokens", "baseline", "losses", "kl"} # per window: scored tokens, mean nats per token
    }}}}

Each entry stands by itself, so that one scheme can be recorded anew without a word about the others. Nothing but
`pytest --update-thresholds` writes the file; margins follow from the figures and are not for editing.
"""

import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quant.errors import QuantError
from quant.evaluate.fingerprint import Fingerprint

FORMAT = 1
UPDATE = "pytest --update-thresholds"
IDENTITY = ("tokens_sha256", "scored_tokens", "window", "stride", "bos_id", "dtype")
"""The fields of a fingerprint in which a measurement must agree with its threshold; machine and versions may differ, to
see what they do is the point.
"""
DIGITS = 9
"""Significant digits of what is stored per window: 1e-9 of a loss, thousands of times below float32 rounding."""


@dataclass(frozen=True, eq=False)
class Windows:
    """Means over the tokens of each window, float64 [windows] all: tokens: how many; baseline, losses: nats per token
    of the unquantized and the quantized model; kl: their divergence.
    """

    tokens: Tensor
    baseline: Tensor
    losses: Tensor
    kl: Tensor

    @property
    def excess(self) -> Tensor:
        """float64 [windows]: the loss that quantizing adds."""
        return self.losses - self.baseline


@dataclass(frozen=True, eq=False)
class Threshold:
    """What one model was under one scheme, and how far it may move; units as in the module docstring."""

    perplexity_ratio: float
    perplexity_margin: float
    kl: float
    kl_margin: float
    noise: float
    baseline_noise: float
    baseline_perplexity: float
    top1_agreement: float
    windows: Windows
    provenance: dict[str, Any]

    def require_same_text(self, fingerprint: Fingerprint) -> None:
        """Raises:
        QuantError: the measurement is not of the recorded tokens, windows or dtype.
        """
        differing = [name for name in IDENTITY if self.provenance.get(name) != getattr(fingerprint, name)]
        if differing:
            recorded = [f"{name} {self.provenance.get(name)}, now {getattr(fingerprint, name)}" for name in differing]
            raise QuantError(
                f"the threshold was recorded on something else ({'; '.join(recorded)}): measure on that, or record it "
                f"with {UPDATE}"
            )

    def to_json(self) -> dict[str, Any]:
        """As in the module docstring."""
        return {
            "perplexity_ratio": {"value": self.perplexity_ratio, "margin": self.perplexity_margin},
            "kl": {"value": self.kl, "margin": self.kl_margin},
            "change": {"noise": self.noise, "baseline_noise": self.baseline_noise},
            "baseline_perplexity": self.baseline_perplexity,
            "top1_agreement": self.top1_agreement,
            "provenance": self.provenance,
            "windows": {name: _rounded(getattr(self.windows, name)) for name in Windows.__annotations__},
        }

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> "Threshold":
        """Raises KeyError, TypeError or ValueError where `entry` is not what `to_json` gives."""
        columns = {name: torch.tensor(entry["windows"][name], dtype=torch.float64) for name in Windows.__annotations__}
        if len({len(column) for column in columns.values()}) != 1:
            raise ValueError("windows of different lengths")
        return cls(
            perplexity_ratio=float(entry["perplexity_ratio"]["value"]),
            perplexity_margin=float(entry["perplexity_ratio"]["margin"]),
            kl=float(entry["kl"]["value"]),
            kl_margin=float(entry["kl"]["margin"]),
            noise=float(entry["change"]["noise"]),
            baseline_noise=float(entry["change"]["baseline_noise"]),
            baseline_perplexity=float(entry["baseline_perplexity"]),
            top1_agreement=float(entry["top1_agreement"]),
            windows=Windows(**columns),
            provenance=dict(entry["provenance"]),
        )


class ThresholdFile:
    """The thresholds in `path`; a file that is not there holds none."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, model: str, scheme: str) -> Threshold:
        """Raises:
        QuantError: the file cannot be read, or has no threshold for them.
        """
        entry = self._entries().get(model, {}).get(scheme)
        if entry is None:
            raise QuantError(f"{scheme} of {model} has no threshold in {self.path}: record it with {UPDATE}")
        try:
            return Threshold.from_json(entry)
        except (KeyError, TypeError, ValueError) as error:
            raise QuantError(f"{self.path}: the threshold of {scheme} of {model} is damaged ({error!r})") from error

    def write(self, model: str, scheme: str, threshold: Threshold) -> None:
        """Replace that threshold and leave the others as they are; the file is whole at every moment."""
        entries = self._entries()
        entries.setdefault(model, {})[scheme] = threshold.to_json()
        text = json.dumps({"format": FORMAT, "thresholds": entries}, indent=1, ensure_ascii=False)
        # A line for each list of numbers, instead of one for each number.
        text = re.sub(r"\[\s+([-\d.e+,\s]+?)\s+\]", lambda match: f"[{' '.join(match[1].split())}]", text)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=self.path.parent, prefix=f".{self.path.name}.", delete=False
        ) as file:
            file.write(text + "\n")
        # Made for its owner alone; readers of the repository are to read it.
        os.chmod(file.name, 0o644)
        os.replace(file.name, self.path)

    def _entries(self) -> dict[str, dict[str, Any]]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise QuantError(f"{self.path} cannot be read as thresholds: {error}") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise QuantError(f"{self.path} does not hold thresholds of format {FORMAT}: record them with {UPDATE}")
        entries: dict[str, dict[str, Any]] = content["thresholds"]
        return entries


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values.tolist()]
