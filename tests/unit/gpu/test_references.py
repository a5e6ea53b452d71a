"""The limits in tests/gpu/references.json follow from their sources, and would catch what they are there for."""

import json
import math

import pytest

from tests.gpu.measuring import RECORDED, SCHEMES
from tests.gpu.references import FILE, REFERENCES, Limits, limits_of, parameter_bytes_of
from tests.unit.gpu.derive import derive

FULL = "Phi-3-mini-4k-instruct"


def test_the_file_is_what_its_sources_give() -> None:
    """`python -m tests.unit.gpu.derive` writes it; margins take scipy's quantiles, whose last digits may differ."""
    written = json.loads(FILE.read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(derive()))


def test_the_figures_of_the_original_are_the_report_s() -> None:
    """In percent: W8A16 +0.0226, 8-bit +2.6, NF4 +3.9, 4-bit +8.5; and bytes, of which it counts 6144 more."""
    schemes = REFERENCES[FULL]["schemes"]
    changes = {scheme: 100 * schemes[scheme]["relative_change"] for scheme in SCHEMES}
    assert changes == pytest.approx(
        {"w8a16": 0.0226, "bnb-int8": 2.6, "nf4": 3.9, "nf4-dq": 3.9, "bnb-nf4": 3.9, "bnb-fp4": 8.5}, rel=0.02
    )
    sizes = (15_284_324_352 - 6_144, 4_416_751_616 - 6_144)
    assert (parameter_bytes_of(FULL, "baseline"), parameter_bytes_of(FULL, "w8a16")) == sizes


@pytest.mark.parametrize("model", [FULL, "reference"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_limits_have_their_reference_inside_and_nothing_quantized_outside(model: str, scheme: str) -> None:
    limits, entry = limits_of(model, scheme), REFERENCES[model]["schemes"][scheme]
    for low, high in (limits.log_ratio, limits.kl, limits.top1):
        assert low < high
    assert limits.log_ratio[0] < math.log1p(entry["relative_change"]) < limits.log_ratio[1]
    assert limits.kl[0] > 0, "a model that agrees with its baseline is not quantized"


def test_a_model_has_figures_for_every_scheme() -> None:
    for entry in REFERENCES.values():
        assert tuple(entry["schemes"]) == SCHEMES
        assert tuple(entry["parameter_bytes"]) == ("baseline", *SCHEMES)
    assert set(RECORDED) <= set(SCHEMES)


def test_limits_that_lack_a_figure_are_refused() -> None:
    with pytest.raises(KeyError):
        Limits.from_json({"log_ratio": [0, 1], "kl": [0, 1]})
