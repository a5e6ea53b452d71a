"""A study from beginning to end: phases in order, and how far each is."""

import importlib.metadata
from collections.abc import Callable
from dataclasses import replace

from quant.evaluate.fingerprint import Fingerprint
from quant.evaluate.footprint import footprint
from quant.evaluate.perplexity import perplexity_of
from quant.study.distributions import DISTRIBUTIONS
from quant.study.errors import measure_errors
from quant.study.models import Subject, measure_models, open_subject
from quant.study.occupancy import measure_occupancy
from quant.study.records import Layer, Study
from quant.study.settings import Settings
from quant.study.speeds import find_support, measure_speeds
from quant.study.weights import measure_layer, weights_of

Watch = Callable[[str, int, int], None]
"""Called as watch(phase, done, total) while working."""
SHARES = {"codes": 1, "errors": 14, "baseline": 1, "layers": 9, "model": 61, "speed": 14}
"""The phases in order, and about how much of the time each takes, in percent."""
PACKAGES = ("numpy", "scipy", "arch", "matplotlib")
"""Versions of what only the study computes or draws with."""


def run_study(settings: Settings, watch: Watch = lambda phase, done, total: None) -> Study:
    """Measure everything.

    Raises:
        QuantError: the text has too few tokens for the settings.
    """
    codes, entropies = measure_occupancy(settings, _counter(watch, "codes", settings.seeds))
    errors, magnitudes = measure_errors(settings, _counter(watch, "errors", settings.seeds * len(DISTRIBUTIONS)))
    subject = open_subject(settings, _counter(watch, "baseline", settings.tokens - 1))
    layers = _layers(subject, settings, watch)
    runs = len(settings.formats) * len(settings.block_sizes)
    scored = _counter(watch, "model", runs * (settings.tokens - 1))
    models = tuple(measure_models(subject, settings, scored))
    advance = _counter(watch, "speed", settings.rounds * len(settings.block_sizes))
    return Study(
        environment=_environment(subject),
        settings=settings,
        float_perplexity=perplexity_of(subject.baseline.losses),
        float_bytes=footprint(subject.model).total_bytes,
        codes=codes,
        entropies=entropies,
        errors=errors,
        magnitudes=magnitudes,
        layers=layers,
        models=models,
        speeds=tuple(measure_speeds(subject, settings, advance)),
        support=find_support(),
    )


def _layers(subject: Subject, settings: Settings, watch: Watch) -> list[Layer]:
    weights = list(weights_of(subject.model))[: settings.layers]
    advance = _counter(watch, "layers", len(weights))
    layers: list[Layer] = []
    for name, weight in weights:
        layers += measure_layer(name, weight, settings)
        advance()
    return layers


def _counter(watch: Watch, phase: str, total: int) -> Callable[..., None]:
    """What to call with the amount done (1), and which tells `watch` the sum of them."""
    done = 0

    def advance(amount: int = 1) -> None:
        nonlocal done
        done += amount
        watch(phase, done, total)

    return advance


def _environment(subject: Subject) -> Fingerprint:
    fingerprint = subject.baseline.measurement.fingerprint
    own = {name: importlib.metadata.version(name) for name in PACKAGES}
    return replace(fingerprint, versions={**fingerprint.versions, **own})
