"""How much a study measures: everything, or enough of everything to see that it works."""

from dataclasses import dataclass

from quant.schemes import BLOCK_SIZES
from quant.study.formats import MODEL_FORMATS


@dataclass(frozen=True)
class Settings:
    """What a study measures.

    Attributes:
        block_sizes: of the synthetic data, the model's weights and the model; block_size: the one of figures that show
            a single one.
        seeds, weights: independent samples of each distribution, and weights in each (a multiple of 4096).
        resamples: of each bootstrap over samples or blocks.
        layers: of the model, from the first; None: all.
        tokens, window: of the held-out text; batch_size: windows per call; formats: of the whole model, int4 before
            what is measured against it.
        rounds: of the timings, in each of which every model generates once; prompt_tokens, new_tokens: what it
        generates.
    """

    block_sizes: tuple[int, ...] = BLOCK_SIZES
    block_size: int = 64
    seeds: int = 20
    weights: int = 1 << 17
    resamples: int = 1000
    tokens: int = 32768
    window: int = 256
    batch_size: int = 8
    layers: int | None = None
    formats: tuple[str, ...] = MODEL_FORMATS
    rounds: int = 9
    prompt_tokens: int = 64
    new_tokens: int = 64


QUICK = Settings(
    block_sizes=(64,),
    seeds=4,
    weights=1 << 12,
    resamples=50,
    tokens=641,
    window=32,
    layers=2,
    formats=("int4", "nf4"),
    rounds=2,
    prompt_tokens=8,
    new_tokens=3,
)
"""Some seconds: 20 windows, which is the least that has an interval."""
