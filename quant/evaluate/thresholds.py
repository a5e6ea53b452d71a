"""What was recorded of quantized models, for `quant.evaluate.gates` to hold them to: one JSON file, its only format.

    {"format": 1, "thresholds": {MODEL: {SCHEME: {
        "perplexity_ratio": {"value", "margin"},          # margin: of its logarithm, a fraction
        "kl": {"value", "margin"},                        # nats per token
        "change": {"noise", "baseline_noise"},            # nats, root mean square over windows, weighted by tokens
        "baseline_perplexity", "top1_agreement",          # for readers; nothing is held to the latter
        "layers": {FORMAT: [NAME, ...]},                  # which layers are in which format
        "floats": {NAME: SHA-256, shortened},             # what is not quantized
        "provenance": {...},                              # text, weights, windows, versions, machine, seed, command
        "windows": {"tokens", "baseline", "losses", "kl"},# per window: scored tokens, mean nats per token
        "sha256"                                          # of all of that
    }}}}

Each entry stands by itself, so that one scheme can be recorded anew without a word about the others. Nothing but
`pytest --update-thresholds` writes the file: an entry that was edited does not fit its checksum and is refused. That
guards against a hand that helps a red gate, not against one that computes the checksum as well.
"""

import hashlib
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
"""The fields of a fingerprint in which a measurement must agree with its threshold; the machine, as long as both are
CPUs or neither is, and versions may differ, to see what they do is the point.
"""
CPU = "cpu"
"""The device of a fingerprint that is no GPU's name."""
DIGITS = 9
"""Significant digits of what is stored per window: 1e-9 of a loss, thousands of times below float32 rounding."""


@dataclass(frozen=True, eq=False)
class WindowMeans:
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

    def rounded(self) -> "WindowMeans":
        """To the `DIGITS` that are stored."""
        columns = (getattr(self, name).tolist() for name in WindowMeans.__annotations__)
        figures = ([float(f"{value:.{DIGITS}g}") for value in column] for column in columns)
        return WindowMeans(*(torch.tensor(column, dtype=torch.float64) for column in figures))


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
    layers: dict[str, list[str]]
    floats: dict[str, str]
    windows: WindowMeans
    provenance: dict[str, Any]

    def require_same_measurement(self, fingerprint: Fingerprint) -> None:
        """Raises:
        QuantError: the measurement is not of the recorded tokens, windows or dtype, or one of the two is of a GPU.
        """
        differing = [name for name in IDENTITY if self.provenance.get(name) != getattr(fingerprint, name)]
        if differing:
            recorded = [f"{name} {self.provenance.get(name)}, now {getattr(fingerprint, name)}" for name in differing]
            raise QuantError(
                f"the threshold was recorded on something else ({'; '.join(recorded)}): measure on that, or record it "
                f"with {UPDATE}"
            )
        device = self.provenance.get("device")
        if (device == CPU) != (fingerprint.device == CPU):
            raise QuantError(
                f"the threshold was recorded on {device}, and this was measured on {fingerprint.device}: quantized "
                f"layers have the same bits on every CPU and not on GPUs; keep a file for each, with --thresholds, and "
                f"record it with {UPDATE}"
            )

    def to_json(self) -> dict[str, Any]:
        """As in the module docstring."""
        entry: dict[str, Any] = {
            "perplexity_ratio": {"value": self.perplexity_ratio, "margin": self.perplexity_margin},
            "kl": {"value": self.kl, "margin": self.kl_margin},
            "change": {"noise": self.noise, "baseline_noise": self.baseline_noise},
            "baseline_perplexity": self.baseline_perplexity,
            "top1_agreement": self.top1_agreement,
            "layers": self.layers,
            "floats": self.floats,
            "provenance": self.provenance,
            "windows": {name: getattr(self.windows, name).tolist() for name in WindowMeans.__annotations__},
        }
        return {**entry, "sha256": _checksum(entry)}

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> "Threshold":
        """Raises AttributeError, KeyError, TypeError or ValueError where `entry` is not what `to_json` gives."""
        names, means = WindowMeans.__annotations__, entry["windows"]
        columns = {name: torch.tensor(means[name], dtype=torch.float64) for name in names}
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
            layers={format_: list(names) for format_, names in entry["layers"].items()},
            floats=dict(entry["floats"]),
            windows=WindowMeans(**columns),
            provenance=dict(entry["provenance"]),
        )


class ThresholdFile:
    """The thresholds in `path`; a file that is not there holds none."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def has(self, model: str, scheme: str) -> bool:
        """Whether there is a threshold for them, whole or damaged; QuantError where the file cannot be read."""
        return scheme in self._entries().get(model, {})

    def read(self, model: str, scheme: str) -> Threshold:
        """Raises:
        QuantError: the file cannot be read, or has no threshold for them.
        """
        entry = self._entries().get(model, {}).get(scheme)
        if entry is None:
            raise QuantError(f"{scheme} of {model} has no threshold in {self.path}: record it with {UPDATE}")
        try:
            threshold = Threshold.from_json(entry)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise QuantError(
                f"{self.path}: the threshold of {scheme} of {model} is damaged ({error!r}): restore it, or record it "
                f"with {UPDATE}"
            ) from error
        if entry.get("sha256") != _checksum({name: part for name, part in entry.items() if name != "sha256"}):
            raise QuantError(
                f"{self.path}: the threshold of {scheme} of {model} does not fit its checksum, it was edited: restore "
                f"it, or record it with {UPDATE}"
            )
        return threshold

    def write(self, model: str, scheme: str, threshold: Threshold) -> None:
        """Replace that threshold and leave the others as they are; the file is whole at every moment.

        Raises:
            QuantError: the file cannot be written, or is none of thresholds; it is then as it was.
        """
        self.require_writable()
        entries = self._entries()
        entries.setdefault(model, {})[scheme] = threshold.to_json()
        text = json.dumps({"format": FORMAT, "thresholds": entries}, indent=1, ensure_ascii=False)
        # A line for each list, instead of one for each number or name. No string in JSON holds a line break.
        text = re.sub(r"\[\n\s+([^\[\]{}]*?)\n\s+\]", _on_one_line, text)
        try:
            with tempfile.TemporaryDirectory(dir=self.path.parent, prefix=f".{self.path.name}.") as folder:
                whole = Path(folder, self.path.name)
                whole.write_text(text + "\n", encoding="utf-8")
                os.replace(whole, self.path)
        except OSError as error:
            raise QuantError(f"{self.path} cannot be written: {error}") from error

    def require_writable(self) -> None:
        """Told before anything is measured.

        Raises:
            QuantError: there is no folder for the file, or the file cannot be read.
        """
        if not self.path.parent.is_dir():
            raise QuantError(f"{self.path} cannot be written: there is no folder {self.path.parent}, make it first")
        self._entries()

    def _entries(self) -> dict[str, dict[str, Any]]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise QuantError(f"{self.path} cannot be read as thresholds: {error}") from error
        models = content.get("thresholds") if isinstance(content, dict) and content.get("format") == FORMAT else None
        if not isinstance(models, dict) or not all(isinstance(schemes, dict) for schemes in models.values()):
            raise QuantError(f"{self.path} does not hold thresholds of format {FORMAT}: record them with {UPDATE}")
        return models


def _checksum(entry: dict[str, Any]) -> str:
    """Of the values, wherever they stand and however they are indented."""
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()


def _on_one_line(found: re.Match[str]) -> str:
    return f"[{' '.join(line.strip() for line in found[1].splitlines())}]"
