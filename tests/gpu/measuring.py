"""One run's measurements: each scheme of the subject loaded once, sized, timed while generating, and compared with the
baseline on the same tokens; then dropped, so that one model is on the device at a time.

As `quant compare` measures, from the same parts, but scheme by scheme when a test first asks, so that one that cannot
be made fails its own tests only; and the losses are kept, which the gates need beside the figures.
"""

import gc
import time
from dataclasses import dataclass

import torch

from quant import reference_model
from quant.evaluate.devices import accelerators
from quant.evaluate.divergence import Baseline, Measurement
from quant.evaluate.footprint import Footprint, footprint, tensors_of
from quant.evaluate.generation import Generation, held_memory, measure_generation, peak_memory
from quant.evaluate.perplexity import perplexity_of
from quant.gated_model import GatedModel
from quant.integrations.transformers import quiet_transformers
from quant.variants import BASELINE, load_variant

SCHEMES = ("w8a16", "nf4", "nf4-dq", "bnb-int8", "bnb-fp4", "bnb-nf4")
RECORDED = ("w8a16", "nf4", "nf4-dq")
"""Those that are also held to what was recorded of them; bitsandbytes' own results are not ours to hold to the bit."""
PROMPT, NEW = 64, 64
"""Tokens of the timed generation. The original's are not known."""


@dataclass(frozen=True)
class Record:
    """What was measured of one scheme. Bytes, seconds.

    quantized_layers: how many; size: of the model as loaded; places: the devices of its tensors; requested_bytes: what
    torch's allocator was asked for while it was loaded and still holds, 0 on the CPU; cpu_bytes, gpu_bytes: peaks while
    generating, above what was there before; measured: None for the baseline.
    """

    scheme: str
    quantized_layers: int
    size: Footprint
    places: frozenset[torch.device]
    requested_bytes: int
    load_seconds: float
    generation: Generation
    cpu_bytes: int
    gpu_bytes: int
    perplexity: float
    measured: Measurement | None


class Run:
    """The measurements of one session, made when asked for.

    Args:
        gated_model: the subject, its text and its baseline; device: where it runs.
    """

    def __init__(self, gated_model: GatedModel, device: torch.device) -> None:
        self.gated_model, self.device = gated_model, device
        self.records: dict[str, Record] = {}

    @property
    def baseline(self) -> Baseline:
        """The unquantized model's losses and logits."""
        return self.gated_model.baseline

    def of(self, scheme: str) -> Record:
        """The record of `scheme`, measured once."""
        if scheme not in self.records:
            self.records[scheme] = self._measure(scheme)
        return self.records[scheme]

    def _measure(self, scheme: str) -> Record:
        baseline = self.baseline  # before anything of this scheme is loaded
        self._use_once(scheme)
        gc.collect()
        held, requested, began = held_memory(), self._requested(), time.perf_counter()
        source = self.gated_model.source
        with quiet_transformers():
            variant = load_variant(scheme, source.folder, source.dtype, str(self.device))
        model = variant.model
        load_seconds, loaded = time.perf_counter() - began, self._requested()
        # Before anything runs: bitsandbytes repacks its weights in the first forward.
        size, tensors = footprint(model), list(tensors_of(model))
        prompt = self.gated_model.windows.ids[:PROMPT]
        with quiet_transformers():
            with peak_memory(above=held, devices=accelerators(model)) as memory:
                generation = measure_generation(model, prompt, NEW)
            measured = None if scheme == BASELINE else baseline.compare(model)
        return Record(
            scheme,
            variant.quantized_layers,
            size,
            frozenset(tensor.device for tensor in tensors),
            loaded - requested,
            load_seconds,
            generation,
            memory.cpu_bytes,
            memory.gpu_bytes,
            perplexity_of((measured or baseline.measurement).losses),
            measured,
        )

    def _use_once(self, scheme: str) -> None:
        """On a small model: what libraries compile, allocate and set up at first use is nobody's."""
        small = load_variant(scheme, reference_model.FOLDER, self.gated_model.source.dtype, str(self.device)).model
        measure_generation(small, torch.zeros(PROMPT, dtype=torch.int64), new_tokens=4, repeats=1)

    def _requested(self) -> int:
        """Unlike what is allocated for them, not rounded up."""
        name = "requested_bytes.all.current"
        return int(torch.cuda.memory_stats(self.device)[name]) if self.device.type == "cuda" else 0
