"""Decode speed of the formats, as ratios within a round, and who else computes with them.

In a round every model generates the same number of tokens, one after the other, starting with another one each time; a
ratio is taken within the round, so that a machine that others slow down slows both of its terms. What is reported is
the median of the rounds and their spread.
"""

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch

from quant import native
from quant.codebooks import FIXED_POINT, LEVELS, fixed_point_levels
from quant.evaluate.generation import measure_generation
from quant.study.formats import PLAIN
from quant.study.models import Subject, load_as
from quant.study.records import Speed, Support
from quant.study.settings import Settings

FLOAT = "float"


def measure_speeds(subject: Subject, settings: Settings, advance: Callable[[], object]) -> Iterator[Speed]:
    """The records, the float model first within block sizes; `advance` is called after each round."""
    for block_size in settings.block_sizes:
        models = {FLOAT: subject.model, **{name: load_as(subject.source, name, block_size) for name in PLAIN}}
        rounds = []
        for index in range(settings.rounds):
            rounds.append(_round(models, index, subject, settings))
            advance()
        for name in models:
            yield Speed(
                format=name,
                block_size=block_size,
                tokens_per_second=statistics.median(speeds[name] for speeds in rounds),
                over_float=[speeds[name] / speeds[FLOAT] for speeds in rounds],
                over_int4=[speeds[name] / speeds["int4"] for speeds in rounds],
            )


def _round(models: dict[str, Any], index: int, subject: Subject, settings: Settings) -> dict[str, float]:
    """Tokens per second of each model, in the order of a round; until every one had decode steps that took time."""
    names = list(models)
    first = index % len(names)
    speeds: dict[str, float] = {}
    while len(speeds) < len(names):
        for name in names[first:] + names[:first]:
            generation = measure_generation(models[name], subject.prompt, settings.new_tokens, repeats=1)
            if generation.decode_tokens_per_second is not None:
                speeds[name] = generation.decode_tokens_per_second
    return speeds


def find_support() -> list[Support]:
    """What computes with each plain format, here and in torch."""
    operators = sorted(name for name in torch._C._dispatch_get_all_op_names() if name.startswith("aten::"))
    return [
        Support(
            format=name,
            kernels=native.supported(),
            torch_operators=[operator for operator in operators if name in operator.lower()],
            fixed_point_error=max(
                abs(fixed / FIXED_POINT[name] - level)
                for fixed, level in zip(fixed_point_levels(name), LEVELS[name], strict=True)
                if abs(level) <= 1
            ),
        )
        for name in PLAIN
    ]
