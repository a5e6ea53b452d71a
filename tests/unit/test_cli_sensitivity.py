"""`quant sensitivity`: what it prints and writes, a plan that quantizes to the same bits, and one line per refusal."""

import json
from pathlib import Path

import pytest
import torch

import quant
from quant import MixedPrecision, QuantError
from quant.evaluate import statistics
from quant.integrations.transformers import load_model
from quant.schemes import NF4
from tests.unit.cli_runner import Run, check_refused
from tests.unit.folders import check_equal, tensors_of

pytestmark = pytest.mark.usefixtures("single_threaded")
NAMES = [f"model.layers.0.mlp.{name}" for name in ("gate_up_proj", "down_proj")]
SHORT = ("--window", 4, "--max-tokens", 101, "--include", "model.layers.0.mlp.*")
"""Two layers and 25 windows."""
HALVED = ("--window", 4, "--max-tokens", 161, "--include", "model.layers.0.mlp.*")
"""And 40, of which a budget takes two halves."""


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 50)


def test_a_plan_within_a_budget_quantizes_on_the_disk_as_in_memory(
    run: Run, model_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    plan, figure, record = (tmp_path / name for name in ("plan.json", "layers.svg", "out.json"))
    files = ("--plan", plan, "--figure", figure, "--json", record)
    outcome = run("sensitivity", model_folder, "--text", text_file, *HALVED, "--budget", "90%", *files)
    assert (outcome.code, outcome.err) == (0, "")
    for text in (
        "Each layer quantized alone",
        "all layers (2)",
        "The plan for a budget of 90 %",
        "if what single layers cost",
    ):
        assert text in outcome.out
    assert outcome.out.count(NAMES[0]) == 3  # under two schemes and in the plan

    read = MixedPrecision.read(plan)
    assert {name: scheme for name, scheme in read.layers.items() if scheme} == dict.fromkeys(NAMES, NF4())
    assert len(read.layers) == 9
    assert read.provenance is not None
    found = read.provenance
    assert found.measured_ratio_ci[1] <= 1.9
    assert found.held_to is not None
    assert (found.fingerprint["scored_tokens"], found.held_to["scored_tokens"]) == (80, 80)
    assert found.fingerprint["tokens_sha256"] != found.held_to["tokens_sha256"]
    assert (found.tried, found.looks) == (1, 1)
    content = json.loads(record.read_text(encoding="utf-8"))
    assert content["plan"] == json.loads(read.to_json())
    assert {(one["name"], one["scheme"]) for one in content["layers"]} == {
        (name, scheme) for name in NAMES for scheme in ("w8a16", "nf4")
    }
    assert content["kinds"][0]["layers"] == NAMES
    assert all(name in figure.read_text(encoding="utf-8") for name in NAMES)

    assert run("quantize", model_folder, tmp_path / "out", "--plan", plan).code == 0
    in_memory = quant.quantize(load_model(model_folder, torch.float32), plan)
    check_equal(tensors_of(tmp_path / "out"), dict(in_memory.state_dict()))


def test_a_figure_that_cannot_be_drawn_costs_neither_the_files_nor_the_tables(
    run: Run, model_folder: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def undrawable(*_: object) -> bytes:
        raise QuantError("no such figure")

    monkeypatch.setattr("quant.report.sensitivity_figure.sensitivity_figure", undrawable)
    files = ("--figure", tmp_path / "layers.svg", "--json", tmp_path / "out.json")
    outcome = run("sensitivity", model_folder, "--text", text_file, *SHORT, *files)
    assert (outcome.code, outcome.err) == (2, "quant: no such figure\n")
    assert "Each layer quantized alone" in outcome.out
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_where_no_plan_is_within_the_budget_it_says_so_and_writes_none(
    run: Run, model_folder: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quant.cli.sensitivity.propose", lambda *_: None)
    plan = tmp_path / "plan.json"
    options = ("--schemes", "fp4", "--budget", "0", "--plan", plan, "--json", "-")
    outcome = run("sensitivity", model_folder, "--text", text_file, *HALVED, *options)
    assert outcome.code == 1
    assert "no plan: none of those measured keeps" in outcome.err
    assert outcome.err.count("\n") == 1
    assert json.loads(outcome.out)["plan"] is None
    assert not plan.exists()


@pytest.mark.usefixtures("no_model")
def test_logits_that_do_not_fit_are_told_before_a_model_is_loaded(
    run: Run, model_folder: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quant.cli.sensitivity.LIMIT_BYTES", 100_000)
    outcome = run("sensitivity", model_folder, "--text", text_file, *SHORT)
    check_refused(
        outcome, r"the logits of 100 tokens take [\d,]+ bytes, more than 100,000: use --max-tokens \d+ or less"
    )


def test_the_default_length_is_what_fits(run: Run, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model whose vocabulary is large for the limit."""
    vocabulary = json.loads((model_folder / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    monkeypatch.setattr("quant.cli.sensitivity.LIMIT_BYTES", 4 * vocabulary * 50 + 1)
    outcome = run("sensitivity", model_folder, "--window", 4, "--include", "*.0.mlp.down_proj", "--json", "-")
    assert json.loads(outcome.out)["environment"]["scored_tokens"] == 49


def test_schemes_of_one_name_are_told_apart(run: Run, model_folder: Path, text_file: Path) -> None:
    outcome = run("sensitivity", model_folder, "--text", text_file, *SHORT, "--schemes", "nf4,nf4-dq")
    for double in (False, True):
        assert outcome.out.count(f"  nf4 double_quant={double}  ") == 3  # two layers and their kind


def test_without_a_budget_it_measures_nf4(run: Run, model_folder: Path, text_file: Path) -> None:
    outcome = run("sensitivity", model_folder, "--text", text_file, *SHORT, "--block-size", 32, "--json", "-")
    content = json.loads(outcome.out)
    assert [(one["scheme"], one["block_size"], one["double_quant"]) for one in content["layers"]] == [
        ("nf4", 32, False)
    ] * 2
    assert content["plan"] is None


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--schemes", "nf5"), "unknown scheme 'nf5': use one of w8a16, nf4, nf4-dq, fp4, int4"),
        (("--schemes", "w8a16-full"), "unknown scheme 'w8a16-full'"),
        (("--block-size", 48), "block_size 48 is not allowed"),
        (("--budget", "1"), "a budget of 100 % of the perplexity is none: use 0 % to less than 100 %"),
        (("--budget", "one"), "--budget 'one' is no part of the whole: write it as in 20% or 0.2"),
        (("--plan", "plan.json"), "--plan is where the plan for a budget goes: pass --budget"),
        (("--figure", "figure.pdf"), r"--figure figure\.pdf: name a file that ends in \.png or \.svg"),
        (("--figure", "svg"), r"--figure svg: name a file that ends in \.png or \.svg"),
        (("--figure", "/missing/figure.svg"), "--figure /missing/figure.svg: the folder"),
        (("--budget", "1%", "--plan", "."), r"--plan \. is a folder"),
        (("--budget", "1%", "--plan", "x.json", "--json", "./x.json"), r"--plan x\.json is the file of --json too"),
        (("--exclude", "down_proj"), "pattern 'down_proj' matches no linear layer"),
        (("--json", "/missing/out.json"), "--json /missing/out.json"),
        (("--dataset", "some/dataset"), "--text and --dataset are two texts"),
        (("--device", "gpu"), "unknown device 'gpu'"),
        (("--device", "auto"), "--device auto spreads a model with replaced forwards .*: use cpu, cuda or cuda:N"),
        (("--budget", "1%"), "on each half of the text, for which 12 windows are too few"),
        (("--budget", "1%", "--window", 64), "it takes 20: pass a longer text or a smaller --window"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_bad_input_is_one_line_before_a_model_is_loaded(
    run: Run, model_folder: Path, text_file: Path, options: tuple[object, ...], message: str
) -> None:
    check_refused(run("sensitivity", model_folder, "--text", text_file, *SHORT, *options), message)
