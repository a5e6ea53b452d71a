"""Verdicts follow the records: turning a result around turns its verdict, and no other."""

from collections.abc import Callable
from typing import Any

import pytest

from quant.study.claims import judge_claims, judge_scales
from quant.study.claims_about_linear import median_interval
from quant.study.records import Study
from quant.study.verdicts import FAILS, HOLDS, ONLY_FOR, OPEN, OPEN_FOR, judge_sizes, sign_above, sizes
from tests.unit.study.planted import around, changed, plant

AS_PLANTED = {
    "distribution awareness": HOLDS,
    "bin spacing": HOLDS,
    "precision by range": HOLDS,
    "less error than linear, on normal data": HOLDS,
    "less error than linear, on trained weights": HOLDS,
    "adaptability": HOLDS,
    "accuracy": HOLDS,
    "accuracy, divergence": HOLDS,
    "error, beside a zero point": HOLDS,
    "error, beside a zero point of the same size": HOLDS,
    "complexity of computation": FAILS,
    "memory": FAILS,
    "hardware support, by operators in torch": HOLDS,
    "scale, error": HOLDS,
    "scale, less error than linear": HOLDS,
    "scale, accuracy": HOLDS,
}


def verdicts(study: Study) -> dict[str, str]:
    return {verdict.subject: verdict.verdict for verdict in (*judge_claims(study), *judge_scales(study))}


def nf4(row: Any) -> bool:
    return bool(row.format == "nf4")


def nf4_in_64(row: Any) -> bool:
    return nf4(row) and row.block_size == 64


def nf4_on_uniform(row: Any) -> bool:
    return nf4(row) and row.distribution == "uniform"


def nf4_on_normal(row: Any) -> bool:
    return nf4(row) and row.distribution == "normal"


def one_layer_in_64(row: Any) -> bool:
    return row.block_size == 64 and "down_proj" in row.layer


def searched_nf4(row: Any) -> bool:
    return bool(row.format == "nf4-mse")


def searched_nf4_on_normal(row: Any) -> bool:
    return searched_nf4(row) and row.distribution == "normal"


LOSES = {"against_int4": -1.0, "against_int4_interval": around(-1.0)}
WORSE = {"against_int4": 1.01, "against_int4_interval": around(1.01, 0.001)}
TURNED: list[tuple[str, str, Callable[[Any], bool], dict[str, Any], str]] = [
    ("distribution awareness", "codes", nf4_in_64, {"derived": 0.01}, f"{ONLY_FOR} blocks of 32"),
    ("distribution awareness", "codes", nf4, {"derived": 0.1}, FAILS),
    ("precision by range", "magnitudes", nf4, {"interval": (0.05, 0.06)}, f"{ONLY_FOR} weights above half the absmax"),
    ("precision by range", "magnitudes", nf4, {"interval": (0.02, 0.03)}, f"{ONLY_FOR} weights below half the absmax"),
    ("precision by range", "magnitudes", nf4, {"interval": (0.03, 0.05)}, OPEN),
    ("less error than linear, on normal data", "errors", nf4_on_normal, LOSES, FAILS),
    (
        "adaptability",
        "errors",
        nf4_on_uniform,
        LOSES,
        f"{ONLY_FOR} normal, Laplace and Student t, 5 degrees of freedom data",
    ),
    (
        "less error than linear, on trained weights",
        "layers",
        one_layer_in_64,
        {"interval": (-2.0, -1.0)},
        f"{ONLY_FOR} blocks of 32",
    ),
    (
        "less error than linear, on trained weights",
        "layers",
        one_layer_in_64,
        {"interval": (-1.0, 1.0)},
        f"{OPEN_FOR} blocks of 64",
    ),
    ("accuracy", "models", nf4, WORSE, FAILS),
    ("accuracy", "models", nf4_in_64, WORSE, f"{ONLY_FOR} blocks of 32"),
    ("accuracy", "models", nf4, {"against_int4_interval": None}, OPEN),
    ("accuracy, divergence", "models", nf4, {"kl_interval": (0.1, 0.2)}, FAILS),
    ("accuracy, divergence", "models", nf4_in_64, {"kl_interval": None}, f"{OPEN_FOR} blocks of 64"),
    ("error, beside a zero point", "errors", nf4_on_normal, {"interval": (0.03, 0.04)}, FAILS),
    ("error, beside a zero point", "errors", nf4_on_normal, {"interval": (0.01, 0.02)}, OPEN),
    ("complexity of computation", "speeds", nf4, {"over_int4": [0.9] * 8}, HOLDS),
    ("complexity of computation", "speeds", nf4, {"over_int4": [0.5, 1.5] * 4}, OPEN),
    ("memory", "models", nf4_in_64, {"footprint_bytes": 9999}, f"{ONLY_FOR} blocks of 64"),
    ("hardware support, by operators in torch", "support", nf4, {"torch_operators": ["aten::a", "aten::b"]}, FAILS),
    ("hardware support, by operators in torch", "support", nf4, {"torch_operators": ["aten::a"]}, OPEN),
    (
        "scale, error",
        "errors",
        lambda row: row.format.endswith("-mse"),
        {"against_absmax_interval": (-0.2, -0.1)},
        FAILS,
    ),
    ("scale, less error than linear", "errors", searched_nf4_on_normal, LOSES, FAILS),
    ("scale, accuracy", "models", searched_nf4, {"against_absmax_interval": (0.9, 1.1)}, OPEN),
]


def test_every_claim_has_its_verdict() -> None:
    assert verdicts(plant()) == AS_PLANTED


@pytest.mark.parametrize(
    ("subject", "part", "chosen", "values", "expected"), TURNED, ids=[f"{row[0]}: {row[4]}" for row in TURNED]
)
def test_a_result_that_is_turned_around_turns_its_verdict(
    subject: str, part: str, chosen: Callable[[Any], bool], values: dict[str, Any], expected: str
) -> None:
    found = verdicts(changed(plant(), part, chosen, **values))
    assert found.pop(subject) == expected
    others = {name: word for name, word in AS_PLANTED.items() if name != subject}
    if subject == "error, beside a zero point":  # in the planted records, blocks of any size err the same
        others["error, beside a zero point of the same size"] = expected
    if subject == "less error than linear, on normal data":  # which is one of the data that NF4 is to adapt to
        others["adaptability"] = f"{ONLY_FOR} uniform, Laplace and Student t, 5 degrees of freedom data"
    assert found == others


def test_the_spacing_of_the_levels_is_read_from_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The only claim that is about the codebook itself."""
    monkeypatch.setattr("quant.study.claims_about_nf4.reached", lambda name: [-1.0, -0.5, 0.0, 0.5, 1.0])
    assert verdicts(plant())["bin spacing"] == FAILS


def test_figures_in_the_sentences_are_those_of_the_records() -> None:
    study = changed(plant(), "errors", nf4_on_normal, against_int4=1.23)
    (sentence,) = (v.figures for v in judge_claims(study) if v.subject == "less error than linear, on normal data")
    assert "+1.23 to +1.23 dB" in sentence


@pytest.mark.parametrize(
    ("signs", "expected"),
    [
        ({}, (OPEN, "")),
        ({32: 1, 64: 1}, (HOLDS, "")),
        ({32: -1, 64: -1}, (FAILS, "")),
        ({32: 0, 64: -1}, (OPEN, "")),
        ({32: 0, 64: 1}, (OPEN_FOR, "blocks of 32")),
        ({32: -1, 64: 1, 128: 1, 256: 0, 512: 1}, (ONLY_FOR, "blocks of 64 to 128 and 512")),
    ],
)
def test_the_rule_from_cases_to_a_verdict(signs: dict[int, int], expected: tuple[str, str]) -> None:
    assert judge_sizes(signs) == expected


def test_block_sizes_in_words() -> None:
    measured = [32, 64, 128, 256]
    assert [sizes(chosen, measured) for chosen in ([], [64], [32, 64, 256], measured)] == [
        "",
        "64",
        "32 to 64 and 256",
        "32 to 256",
    ]


def test_the_sign_of_an_interval() -> None:
    assert [sign_above(i) for i in ((0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1), None)] == [1, -1, 0, 0]
    assert sign_above((0.9, 0.95), 1.0) == -1


def test_the_interval_of_a_median_is_that_of_the_sign_test() -> None:
    """Of 20 independent values from the 6th to the 15th: with n of them below the median, binomial, that misses it in
    2 P(n <= 5) = 4.1 %, and one value less on each side in 11.5 %. Of 6 the whole range, which misses it in 3.1 %, and
    of 5 none, for theirs does in 6.3 %.
    """
    assert median_interval([float(value) for value in range(20, 0, -1)]) == (6.0, 15.0)
    assert median_interval([3.0, 1.0, 2.0, 5.0, 4.0, 6.0]) == (1.0, 6.0)
    assert median_interval([3.0, 1.0, 2.0, 5.0, 4.0]) is None
