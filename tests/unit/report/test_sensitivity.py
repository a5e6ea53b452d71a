"""The tables and the figure of `quant sensitivity`, from measurements made by hand."""

import dataclasses
import json
import math
import xml.etree.ElementTree as ElementTree

from quant.drawing.style import drawing
from quant.evaluate.paired import PairedAccuracy
from quant.evaluate.statistics import Estimate
from quant.mixed_precision import MixedPrecision, Provenance
from quant.report.sensitivity import (
    no_plan,
    proposal_notes,
    proposal_table,
    sensitivity_json,
    sensitivity_notes,
    sensitivity_tables,
)
from quant.report.sensitivity_figure import divergence_by_layer, sensitivity_figure
from quant.schemes import NF4, W8A16, Scheme
from quant.sensitivity import BROKEN, Sensitivities, Sensitivity
from quant.sensitivity.proposal import Proposal
from tests.unit.report.samples import ENVIRONMENT

NAMES = ("a.down_proj", "b.down_proj")


def one(name: str, scheme: Scheme, kl: float, ratio: float, layers: tuple[str, ...] = ()) -> Sensitivity:
    accuracy = PairedAccuracy(
        perplexity=30.0 * ratio,
        difference=30.0 * (ratio - 1),
        relative_change=ratio - 1,
        ratio=Estimate(ratio, (ratio - 0.001, ratio + 0.001)),
        kl=Estimate(kl, (0.9 * kl, 1.1 * kl)),
        top1_agreement=0.9875,
    )
    return Sensitivity(name, layers or (name,), scheme, accuracy, 40_000, 5_625)


MEASURED = Sensitivities(
    model="tiny",
    environment=ENVIRONMENT,
    perplexity=30.0,
    layers=(
        one(NAMES[1], NF4(), 2e-3, 1.002),
        one(NAMES[0], NF4(), 1e-3, 1.001),
        one(NAMES[0], W8A16(), 1e-5, 1.00001),
        one(NAMES[1], W8A16(), 0.0, 1.0),
    ),
    kinds=(one("all layers", NF4(), 3e-3, 1.004, NAMES), one("all layers", W8A16(), 1e-5, 1.00001, NAMES)),
    left={"lm_head": "output head"},
)
PROVENANCE = Provenance("tiny", 0.005, {}, 1.003002, 1.004, (1.0031, 1.0049), 80_000, 45_625, {}, 3, 2)
PROPOSAL = Proposal(
    MixedPrecision({NAMES[0]: NF4(), NAMES[1]: None}, PROVENANCE), PROVENANCE, MEASURED.kinds[0].accuracy
)


def test_a_row_says_what_one_layer_or_a_kind_costs() -> None:
    layers, kinds = sensitivity_tables(MEASURED)
    assert layers.rows[0] == (
        "b.down_proj",
        "nf4",
        "2.00e-03",
        "[1.80e-03, 2.20e-03]",
        "1.00200",
        "[1.00100, 1.00300]",
        "98.75",
        "40,000",
        "5,625",
    )
    assert [row[0] for row in layers.rows] == ["b.down_proj", "a.down_proj", "a.down_proj", "b.down_proj"]
    assert kinds.rows[0][:2] == ("all layers (2)", "nf4")
    assert len(sensitivity_tables(dataclasses.replace(MEASURED, kinds=()))) == 1


def test_schemes_of_one_name_are_told_apart() -> None:
    layers = (one(NAMES[0], NF4(), 1e-3, 1.001), one(NAMES[0], NF4(double_quant=True), 2e-3, 1.002))
    (table,) = sensitivity_tables(dataclasses.replace(MEASURED, layers=layers, kinds=()))
    assert [row[1] for row in table.rows] == ["nf4 double_quant=False", "nf4 double_quant=True"]


def test_a_broken_layer_is_infinite_in_the_table_and_the_sum_null_in_json_and_not_drawn() -> None:
    broken = dataclasses.replace(MEASURED.layers[0], accuracy=BROKEN)
    measured = dataclasses.replace(MEASURED, layers=(broken, *MEASURED.layers[1:]))
    assert sensitivity_tables(measured)[0].rows[0][2:7] == ("inf", "-", "inf", "-", "0.00")
    notes = sensitivity_notes(measured)
    assert notes[1].endswith("all together have a ratio of inf; measured 1.00400")
    assert "no 95 % interval: the logits of a quantized model hold NaN or infinite values" in notes
    record = json.loads(sensitivity_json(measured, None))["layers"][0]
    assert (record["kl_mean"], record["perplexity_ratio"], record["perplexity_ratio_ci"]) == (None, None, None)
    assert NAMES[1] in sensitivity_figure(measured, ".svg").decode()


def test_a_sum_beyond_the_floats_is_infinite() -> None:
    layers = tuple(one(name, NF4(), 1.0, 1e300) for name in NAMES)
    assert dataclasses.replace(MEASURED, layers=layers).added_up(NF4()) == math.inf


def test_notes_hold_the_sum_of_single_layers_to_all_together() -> None:
    notes = sensitivity_notes(MEASURED)
    assert notes[0].startswith("tiny, float32, perplexity 30.0000; 12,345 tokens scored, window 256, stride 255, BOS 1")
    assert notes[1] == (
        "NF4(block_size=64, double_quant=False): if what single layers cost adds up, all together have a ratio of "
        "1.00300; measured 1.00400"
    )
    assert notes[2].endswith("a ratio of 1.00001; measured 1.00001")
    assert notes[-1] == "not measured lm_head: output head"


def test_an_interval_that_is_missing_is_a_dash_and_a_reason() -> None:
    estimate = Estimate(1.002, None, "5 windows are too few")
    accuracy = dataclasses.replace(MEASURED.layers[0].accuracy, ratio=estimate)
    measured = dataclasses.replace(MEASURED, layers=(dataclasses.replace(MEASURED.layers[0], accuracy=accuracy),))
    assert sensitivity_tables(measured)[0].rows[0][5] == "-"
    assert "no 95 % interval: 5 windows are too few" in sensitivity_notes(measured)


def test_a_proposal_is_told_layer_by_layer_with_the_predicted_and_the_measured_ratio() -> None:
    table, notes = proposal_table(PROPOSAL), proposal_notes(PROPOSAL)
    assert table.title == "The plan for a budget of 0.5 %"
    assert table.rows == ((NAMES[0], str(NF4())), (NAMES[1], "float"))
    assert notes[0] == (
        f"1 of 2 linear layers quantized ({NF4()}); the measured layers' weights: 80,000 -> 45,625 bytes"
    )
    assert notes[1] == (
        "perplexity ratio predicted 1.00300 (sum of single layers), measured 1.00400 [1.00310, 1.00490]: within 1.005"
    )
    assert notes[2] == (
        "chosen on the first half of the windows (3 plans measured), held to the other half, which had no part in the "
        "choice (2 measured there)"
    )
    assert "within a perplexity ratio of 1.005: allow more, or measure on a longer text" in no_plan(0.005)


def test_many_layers_of_one_scheme_are_one_row() -> None:
    def rows(plan: dict[str, Scheme | None]) -> tuple[tuple[str, ...], ...]:
        return proposal_table(dataclasses.replace(PROPOSAL, plan=MixedPrecision(plan, PROVENANCE))).rows

    many: dict[str, Scheme | None] = {f"layers.{index}": NF4() for index in range(5)}
    assert rows(many) == (("all 5", str(NF4())),)
    others: dict[str, Scheme | None] = {"first": W8A16(), **many, "lm_head": None}
    assert rows(others) == (("first", str(W8A16())), ("lm_head", "float"), ("the other 5", str(NF4())))
    del others["layers.3"]
    assert [name for name, _ in rows(others)] == list(others)


def test_the_figure_names_every_layer_and_scheme_and_is_the_same_each_time() -> None:
    content = sensitivity_figure(MEASURED, ".svg")
    texts = "".join(ElementTree.fromstring(content).itertext())
    for text in (*NAMES, "nf4", "w8a16", "tiny: each layer quantized alone", "nats per token"):
        assert text in texts
    assert "1e-04" in texts
    assert "$" not in texts
    assert sensitivity_figure(MEASURED, ".svg") == content
    assert sensitivity_figure(MEASURED, ".PNG").startswith(b"\x89PNG")


def test_the_figure_has_a_point_for_each_layer_with_a_place_on_a_logarithmic_axis() -> None:
    """The second layer in W8A16 has a divergence of 0, and a broken one an infinite one."""
    broken = dataclasses.replace(MEASURED.layers[0], accuracy=BROKEN)
    with drawing():
        figures = [divergence_by_layer(MEASURED)]
        figures.append(divergence_by_layer(dataclasses.replace(MEASURED, layers=(broken, *MEASURED.layers[1:]))))
    points, without = (
        {bars.get_label(): bars[0].get_xydata()[:, 0].tolist() for bars in figure.axes[0].containers}
        for figure in figures
    )
    assert points == {"nf4": [2e-3, 1e-3], "w8a16": [1e-5]}
    assert without == {"nf4": [math.inf, 1e-3], "w8a16": [1e-5]}
    assert figures[0].axes[0].get_xlim()[1] > 2.2e-3 > 1.8e-3 > figures[1].axes[0].get_xlim()[1] > 1.1e-3


def test_names_that_no_font_has_are_drawn_all_the_same() -> None:
    """A character that XML cannot hold among them."""
    layers = tuple(dataclasses.replace(one, name=f"{one.name}\x07\u4e2d") for one in MEASURED.layers)
    content = sensitivity_figure(dataclasses.replace(MEASURED, model="m\x07", layers=layers), ".svg")
    texts = "".join(ElementTree.fromstring(content).itertext())
    assert "m?: each layer" in texts
    assert f"{NAMES[0]}??" in texts
