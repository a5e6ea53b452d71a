"""One model that is held to thresholds: opened once, its baseline measured once, each scheme measured when asked for.

What `quant compare` does for a reader, this does for a test: same loading, same windows, same measurements. The window
is the model's as in `quant compare`, but small enough for `WINDOWS` of them: a standard error between windows needs
many, and comparing needs no long context. Of the embedded text only the first `EMBEDDED_TOKENS` are used, on which a
scheme of the embedded model takes about three seconds of one core; of a text of one's own all.

Refused before anything is measured: what cannot be opened, read, cut into enough windows, quantized or written.
"""

from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from quant.checkpoint.folder import open_checkpoint
from quant.checkpoint.manifest import digest_of_weights
from quant.dtypes import dtype_name
from quant.errors import QuantError
from quant.evaluate.budgets import check_limits, judge_budget
from quant.evaluate.devices import device_names, runs_on_cpu
from quant.evaluate.divergence import LIMIT_BYTES, Baseline, Measurement
from quant.evaluate.gates import NOISE_FACTOR, Check, GateResult, Verdict, judge
from quant.evaluate.layers import check_layers, counted, float_layers, layer_formats
from quant.evaluate.noise import rounding_noise
from quant.evaluate.parameters import check_parameters, float_digests
from quant.evaluate.perplexity import stream_losses
from quant.evaluate.recording import derive_threshold
from quant.evaluate.statistics import MIN_WINDOWS
from quant.evaluate.thresholds import CPU, UPDATE, Threshold, ThresholdFile
from quant.evaluate.windows import TokenWindows
from quant.integrations.transformers import load_tokenizer, quiet_transformers
from quant.sources import Source, cut_windows, open_source, read_text
from quant.variants import BASELINE, check_possible, check_variants, load_variant

WINDOWS = 64
SMALLEST_WINDOW = 32
EMBEDDED_TOKENS = 16385
NOISE_SEED = 0
NOT_GIVEN: Any = object()
"""No model, so that the source is quantized here; as opposed to None, which a helper gives that has no return."""


class GatedModel:
    """A model, a text and the thresholds they are held to.

    Args:
        model: `reference`, a local folder or a hub id; text: UTF-8 file, None for the embedded held-out text.
        device: to run on; thresholds: where they are kept.
        dtype: of the unquantized model, by name; "auto" is what its configuration says.
        limit_bytes: memory for the baseline's logits, see `quant.evaluate.divergence.Baseline`.
        name: what its thresholds are filed under, `name_of(model)` if not given.

    Raises:
        QuantError: no such model, or a text that cannot be read or is too short.
    """

    def __init__(
        self,
        model: str,
        text: Path | None,
        device: str,
        thresholds: ThresholdFile,
        dtype: str = "auto",
        limit_bytes: int = LIMIT_BYTES,
        name: str | None = None,
    ) -> None:
        self.source: Source = open_source(model, dtype)
        self._limit_bytes = limit_bytes
        self.name = name or name_of(model)
        self.device, self.thresholds = device, thresholds
        self._text = "embedded" if text is None else text.name
        tokenizer = load_tokenizer(self.source.folder)
        limit = EMBEDDED_TOKENS if text is None else None
        self.windows = _many_windows(self.source, tokenizer, read_text(text, None), limit)

    def __str__(self) -> str:
        dtype = dtype_name(self.source.dtype)
        windows = f"{self.windows.scored:,} tokens in windows of {self.windows.window}"
        return f"{self.name} in {dtype} on {self.device}; {self._text} text, {windows}"

    @property
    def baseline(self) -> Baseline:
        """The unquantized model's losses and logits."""
        return self._baseline[0]

    @cached_property
    def _baseline(self) -> tuple[Baseline, set[str]]:
        """With its float layers: the model itself is not kept."""
        model = self._load(BASELINE)
        return Baseline(model, self.windows, self._batch_size, self._limit_bytes), float_layers(model)

    @cached_property
    def _noisy_baseline(self) -> Tensor:
        return self._noisy_losses(self._load(BASELINE))

    @cached_property
    def weights_sha256(self) -> str:
        """Of the unquantized weights, see `quant.checkpoint.manifest.digest_of_weights`."""
        return digest_of_weights(open_checkpoint(self.source.folder))

    def _subject(self, scheme: str, model: Any) -> Any:
        if model is None:
            raise QuantError(
                f"{scheme}: model=None is no model, has its helper no return? Leave model out to measure this "
                f"library's own quantizer"
            )
        if model is not NOT_GIVEN:
            if not isinstance(model, nn.Module):
                raise QuantError(f"{scheme}: the model is a {type(model).__name__}, pass a loaded one")
            require_same_device(scheme, model, self.device)
            return model
        self.check(scheme)
        return self._load(scheme)

    def check(self, scheme: str) -> None:
        """Raises:
        QuantError: `scheme` is unknown or the baseline itself, or the model cannot be quantized that way.
        """
        check_variants([scheme])
        if scheme == BASELINE:
            raise QuantError(f"{scheme} is what schemes are held against, and no scheme itself: leave it out")
        check_possible([scheme], self.source.folder, self.source.dtype)

    def judge(self, scheme: str, model: Any = NOT_GIVEN) -> GateResult:
        """Hold `model`, or the source quantized as `scheme`, to the threshold of `scheme`.

        Raises:
            QuantError: no threshold, or one of another text or model; see `quant.evaluate.gates.judge`; as `record` for
                the model, but for one without quantized layers, which is a regression.
        """
        threshold = self.thresholds.read(self.name, scheme)
        recorded = threshold.provenance.get("weights_sha256")
        if recorded != self.weights_sha256:
            raise QuantError(
                f"{scheme}: the unquantized weights in {self.source.folder} are not the recorded ones (SHA-256 "
                f"{self.weights_sha256}, recorded {recorded}): it is another model; if that is meant, record it with "
                f"{UPDATE}"
            )
        if threshold.provenance.get("tokens_sha256") != self.windows.sha256:
            raise QuantError(
                f"{scheme} was recorded on {threshold.provenance.get('text')}, "
                f"{threshold.provenance.get('scored_tokens')} tokens, and this is {self._text}, {self.windows.scored}: "
                f"measure on that, or record it with {UPDATE}"
            )
        subject = self._subject(scheme, model)
        return self._held(scheme, threshold, subject, self.baseline.compare(subject))

    def judge_budget(
        self,
        scheme: str,
        model: Any = NOT_GIVEN,
        max_perplexity_ratio: float | None = None,
        max_kl: float | None = None,
    ) -> GateResult:
        """Hold it to limits instead; see `quant.evaluate.budgets.judge_budget`.

        Raises:
            QuantError: no limit, or one of nonsense; as `record` for the model.
        """
        check_limits(max_perplexity_ratio, max_kl)
        subject = self._subject(scheme, model)
        self._require_quantized(scheme, subject)
        measured = self.baseline.compare(subject)
        result = judge_budget(scheme, self.baseline.measurement, measured, max_perplexity_ratio, max_kl)
        layers = Check("layers", Verdict.PASS, f"layers: {counted(layer_formats(subject))}")
        return GateResult(scheme, (layers, *result.checks))

    def record(self, scheme: str, command: str, model: Any = NOT_GIVEN) -> GateResult:
        """Measure `model`, or the source quantized as `scheme`, and write the threshold of `scheme`; `command` is kept
        with it. Returns the same measurement held to that: a pass.

        Raises:
            QuantError: unknown scheme, or the model cannot be quantized that way; `model` is none, on another kind of
                device, or has no quantized layer; the file cannot be written.
        """
        self.thresholds.require_writable()
        subject = self._subject(scheme, model)
        self._require_quantized(scheme, subject)
        measured = self.baseline.compare(subject)
        provenance = {
            "text": self._text,
            "weights_sha256": self.weights_sha256,
            **asdict(measured.fingerprint),
            "noise_seed": NOISE_SEED,
            "noise_factor": NOISE_FACTOR,
            "command": command,
        }
        threshold = derive_threshold(
            self.baseline.measurement,
            measured,
            self._noisy_baseline,
            self._noisy_losses(subject),
            layer_formats(subject),
            float_digests(subject),
            provenance,
        )
        self.thresholds.write(self.name, scheme, threshold)
        return self._held(scheme, threshold, subject, measured)

    def _held(self, scheme: str, threshold: Threshold, subject: Any, measured: Measurement) -> GateResult:
        layers = check_layers(threshold.layers, layer_formats(subject))
        floats = check_parameters(threshold.floats, float_digests(subject))
        result = judge(scheme, threshold, self.baseline.measurement, measured)
        return GateResult(scheme, (layers, floats, *result.checks))

    def _require_quantized(self, scheme: str, subject: Any) -> None:
        """Raises:
        QuantError: every layer of the baseline is an ordinary float layer in `subject` too.
        """
        if self._baseline[1] <= float_layers(subject):
            raise QuantError(f"{scheme}: no layer of this model is quantized: pass one that is")

    @property
    def _batch_size(self) -> int:
        return max(1, 2048 // self.windows.window)

    def _load(self, variant: str) -> Any:
        with quiet_transformers():
            return load_variant(variant, self.source.folder, self.source.dtype, self.device).model

    def _noisy_losses(self, model: Any) -> Tensor:
        with rounding_noise(model, NOISE_SEED):
            return stream_losses(model, self.windows, self._batch_size)


def require_same_device(scheme: str, model: Any, device: str) -> None:
    """Raises:
    QuantError: `model` is on another kind of device than its baseline will be, where floats round differently.
    """
    there = device_names(model)
    if (there == CPU) != runs_on_cpu(device):
        raise QuantError(
            f"{scheme}: the model is on {there}, and its baseline is measured on {device}: pass --device, or move the "
            "model"
        )


def name_of(model: str) -> str:
    """What thresholds call MODEL: a folder by its name, wherever it lies; a hub id and `reference` as they are."""
    folder = Path(model)
    return folder.resolve().name if folder.is_dir() else model


def _many_windows(source: Source, tokenizer: Any, text: str, limit: int | None) -> TokenWindows:
    windows = cut_windows(source, tokenizer, text, None, None, "auto", limit)
    if len(windows.spans) < WINDOWS:
        smaller = min(windows.window, max(SMALLEST_WINDOW, windows.scored // WINDOWS))
        windows = cut_windows(source, tokenizer, text, smaller, None, "auto", limit)
    if len(windows.spans) < MIN_WINDOWS:
        raise QuantError(
            f"a text of {windows.scored:,} tokens is too short for a standard error: it takes {MIN_WINDOWS} windows of "
            f"{windows.window}, pass a longer one"
        )
    return windows
