"""A file that is damaged anywhere is refused by the part that is, where a page of it would have been a traceback."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from quant.errors import QuantError
from quant.study.page import read_json, to_json
from quant.study.records import Study
from tests.unit.study.planted import changed, plant

Damage = Callable[[dict[str, Any]], object]
TEXT = to_json(plant())


def read(damage: Damage) -> Study:
    content = json.loads(TEXT)
    damage(content)
    return read_json(json.dumps(content), "some.json")


def change(*path: Any, to: Any) -> Damage:
    """The value at `path`, keys and indices, becomes `to`."""

    def changing(content: Any) -> None:
        *way, last = path
        for step in way:
            content = content[step]
        content[last] = to

    return changing


def cut(part: str, *, by: int = 1) -> Damage:
    return lambda content: content.update({part: content[part][:-by]})


def drop(*path: Any) -> Damage:
    def dropping(content: Any) -> None:
        *way, last = path
        for step in way:
            content = content[step]
        del content[last]

    return dropping


def test_what_is_whole_comes_back() -> None:
    assert to_json(read(lambda content: None)) == TEXT


PARTS = ("codes", "entropies", "errors", "magnitudes", "models", "speeds", "support")


@pytest.mark.parametrize("part", PARTS)
def test_every_row_that_the_settings_promise_is_there_once(part: str) -> None:
    for damage, message in (
        (change(part, to=[]), "lacks the row of"),
        (cut(part), "lacks the row of"),
        (lambda content: content[part].append(content[part][0]), "has one row too many of"),
    ):
        with pytest.raises(QuantError, match=rf"^some\.json is damaged \({part} {message} .*measure anew"):
            read(damage)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change("environment", to={}), "environment.tokens_sha256 is missing"),
        (change("environment", "versions", "torch", to=None), "environment.versions.torch is null"),
        (change("settings", to={}), "settings.block_sizes is missing"),
        (drop("settings", "layers"), "settings.layers is missing"),
        (change("settings", "colour", to=1), "settings.colour is no field"),
        (change("settings", "seeds", to=True), "settings.seeds is true"),
        (change("settings", "seeds", to=0), "settings, seeds is 0"),
        (change("settings", "seeds", to=10**400), "settings, seeds is 1000"),
        (change("settings", "block_sizes", to=[]), r"settings.block_sizes are \[\]"),
        (change("settings", "block_sizes", to=[64, 32]), r"settings.block_sizes are \[64, 32\]"),
        (change("settings", "block_size", to=128), "settings.block_size 128 is none of"),
        (change("settings", "formats", to=["int4"]), "settings.formats are int4"),
        (change("settings", "formats", to=["nf4", "fp4"]), "settings.formats are nf4, fp4"),
        (change("settings", "formats", to=["nf4", "int4", "int5"]), "settings.formats are nf4, int4, int5"),
        (change("float_bytes", to=1.5), "float_bytes is 1.5"),
        (change("float_perplexity", to=-1), "float_perplexity is -1"),
        (change("codes", to=None), "codes is null"),
        (change("codes", 3, to=[]), r"codes\[3\]. is no table"),
        (change("codes", 3, "derived", to=None), r"codes\[3\].derived is null"),
        (change("codes", 3, "derived", to=float("nan")), r"codes\[3\].derived is NaN"),
        (change("codes", 3, "derived", to=float("inf")), r"codes\[3\].derived is Infinity"),
        (change("codes", 3, "derived", to=10**400), r"codes\[3\].derived is 1000"),
        (change("codes", 3, "derived", to=1e200), r"codes, derived is 1e\+200"),
        (change("codes", 3, "interval", to=[0.1]), r"codes\[3\].interval holds 1 values, not 2"),
        (change("codes", 3, "interval", to=[0.2, 0.1]), r"codes, interval is \[0.2, 0.1\]"),
        (drop("errors", 0, "bits"), r"errors\[0\].bits is missing"),
        (change("errors", 0, "derived", to=None), "errors, nf4 in blocks of 32: derived is null"),
        (change("errors", 0, "relative_mse", to=0.0), "errors, relative_mse is 0"),
        (change("errors", 0, "against_int4", to=None), "errors, nf4 in blocks of 32: against_int4 is null"),
        (change("errors", 0, "against_absmax", to=1.0), "errors, nf4 in blocks of 32: against_absmax is not null"),
        (change("errors", 0, "against_int4_interval", to=None), "nf4 in blocks of 32: against_int4_interval is null"),
        (change("magnitudes", 0, "high", to=0.5), "magnitudes lacks the row of"),
        (change("magnitudes", 0, "share", to=0.5), "magnitudes, nf4 on uniform data: the shares add up to 1.42857"),
        (change("magnitudes", 0, "share", to=-0.5), "magnitudes, nf4 on uniform data: a share is -0.5"),
        (change("layers", to=[]), "layers are of 0 layers"),
        (cut("layers"), "layers lacks the row of"),
        (change("settings", "layers", to=1), "layers are of 2 layers"),
        (drop("layers", 0, "sqnr", "nf4"), "sqnr is not of all formats"),
        (change("layers", 0, "sqnr", "nf4", to=-1e9), "sqnr is beyond 300 dB"),
        (change("models", 0, "footprint_bytes", to=None), "models, nf4 in blocks of 32: footprint_bytes is null"),
        (change("models", 0, "kl", to=0), "models, kl is 0"),
        (change("models", 0, "format", to="w8a16"), "models lacks the row of"),
        (change("speeds", 0, "over_float", to=[]), "speeds, float in blocks of 32: over_float is of 0 rounds, not 8"),
        (change("speeds", 0, "over_int4", 7, to="1"), r'speeds\[0\].over_int4\[7\] is "1"'),
        (change("support", 0, "kernels", to="avx2"), r'support\[0\].kernels is "avx2"'),
    ],
)
def test_a_damaged_study_is_refused_by_its_part(damage: Damage, message: str) -> None:
    with pytest.raises(QuantError, match=rf"^some\.json is damaged \(.*{message}.*\): measure anew, without --from$"):
        read(damage)


def test_too_few_windows_for_an_interval_are_no_damage() -> None:
    none = {"ratio_interval": None, "against_int4_interval": None, "against_absmax_interval": None, "kl_interval": None}
    study = changed(plant(), "models", lambda row: True, **none)
    assert read_json(to_json(study), "some.json").models[0].kl_interval is None
