"""`quant diff` as it is called: what it prints, in three ways, and its exit codes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from quant.records import Comparison
from quant.report.json_file import comparison_json
from tests.unit.cli_runner import Run, check_refused
from tests.unit.diff.runs import RUN, moved, with_result
from tests.unit.report.samples import COMPARISON, ENVIRONMENT


def save(folder: Path, **runs: Comparison) -> list[Path]:
    paths = [folder / f"{name}.json" for name in runs]
    for path, run in zip(paths, runs.values(), strict=True):
        path.write_text(comparison_json(run), encoding="utf-8")
    return paths


def test_the_same_file_twice_has_not_changed(run: Run, tmp_path: Path) -> None:
    (path,) = save(tmp_path, same=RUN)
    outcome = run("diff", path, path)
    assert (outcome.code, outcome.err) == (0, "")
    assert "12,345 tokens scored: no regression, what was judged has not changed" in outcome.out
    assert "->" not in outcome.out.replace("before -> after", "")


def test_a_regression_is_exit_code_1(run: Run, tmp_path: Path) -> None:
    outcome = run("diff", *save(tmp_path, before=RUN, after=moved(0.01)))
    assert (outcome.code, outcome.err) == (1, "")
    assert "regression of w8a16" in outcome.out
    assert "w8a16: perplexity ratio 1.000028 -> 1.000028: +0.9" in outcome.out
    assert run("diff", *save(tmp_path, before=moved(0.01), after=RUN)).code == 0


def test_what_may_be_chance_is_none(run: Run, tmp_path: Path) -> None:
    outcome = run("diff", *save(tmp_path, before=RUN, after=moved(0)))
    assert outcome.code == 0
    assert "no regression found, inconclusive for w8a16" in outcome.out
    assert "at most" in outcome.out


def test_markdown_has_the_same_cells(run: Run, tmp_path: Path) -> None:
    changed = with_result(1, footprint_bytes=12_000_001, tokens_per_second=45.0, kl_mean=6.5e-5, top1_agreement=0.99)
    outcome = run("diff", *save(tmp_path, before=RUN, after=changed), "--markdown")
    assert outcome.code == 1
    rows = [line for line in outcome.out.splitlines() if line.startswith("| w8a16")]
    assert rows == [
        "| w8a16 | regression | 35.2356 | 1.00003 | +0.0000 | 3.25e-05 -> 6.50e-05 | +100.00 | 99.75 -> 99.00 |",
        "| w8a16 | regression | 12,000,000 -> 12,000,001 | 60.0 -> 45.0 | -25.0 | 0.90 | 2.25 |",
    ]
    assert "- w8a16: footprint 12,000,000 -> 12,000,001 bytes: regression" in outcome.out.splitlines()


def test_json_has_every_check(run: Run, tmp_path: Path) -> None:
    outcome = run("diff", *save(tmp_path, before=RUN, after=replace(moved(0.01), model="new")), "--json")
    assert outcome.code == 1
    record = json.loads(outcome.out, parse_constant=pytest.fail)
    assert (record["schema"], record["regressed"]) == (1, True)
    assert [side["model"] for side in (record["before"], record["after"])] == ["my-model", "new"]
    assert record["before"]["environment"]["processes"] == 2
    assert record["notes"] == ["the models have different names: my-model and new"]
    baseline, int8 = record["schemes"]
    assert (baseline["scheme"], baseline["verdict"]) == ("baseline", "pass")
    assert (int8["scheme"], int8["verdict"]) == ("w8a16", "regression")
    assert [(c["name"], c["verdict"], c["changed"]) for c in int8["checks"]] == [
        ("perplexity ratio", "regression", True),
        ("KL divergence", "pass", False),
        ("footprint", "pass", False),
    ]
    assert int8["before"]["footprint_bytes"] == int8["after"]["footprint_bytes"] == 12_000_000
    assert "window_losses" not in int8["before"]


def test_inconclusive_is_no_regression_but_a_failure_where_it_is_asked_for(run: Run, tmp_path: Path) -> None:
    paths = save(tmp_path, before=RUN, after=moved(0.0005))
    for options, code in (((), 0), (("--strict",), 1)):
        outcome = run("diff", *paths, *options)
        assert (outcome.code, outcome.err) == (code, "")
        assert "inconclusive" in outcome.out
    same = save(tmp_path, before=RUN, after=RUN)
    assert run("diff", *same, "--strict").code == 0


def test_missing_and_new_schemes_are_told(run: Run, tmp_path: Path) -> None:
    fewer = replace(RUN, results=RUN.results[:1])
    outcome = run("diff", *save(tmp_path, before=RUN, after=fewer), "--markdown")
    assert outcome.code == 1
    assert "| w8a16 | missing | 35.2356 -> - |" in outcome.out
    outcome = run("diff", *save(tmp_path, before=fewer, after=RUN), "--markdown")
    assert outcome.code == 0
    assert "| w8a16 | new | - -> 35.2356 |" in outcome.out
    assert "- w8a16: new, there is nothing to compare it with" in outcome.out


def test_a_broken_model_is_a_regression(run: Run, tmp_path: Path) -> None:
    """Its figures are null in the file."""
    before = replace(COMPARISON, results=(*RUN.results, replace(RUN.results[1], scheme="nf4")))
    outcome = run("diff", *save(tmp_path, before=before, after=COMPARISON))
    assert outcome.code == 1
    assert "nf4: perplexity ratio 1.000028 -> not finite, a token had probability 0: regression" in outcome.out


def test_a_limit_of_the_speed(run: Run, tmp_path: Path) -> None:
    paths = save(tmp_path, before=RUN, after=with_result(1, tokens_per_second=50.0))
    assert [run("diff", *paths, "--max-slowdown", limit).code for limit in ("20%", "0.2", "10%", "0.1")] == [0, 0, 1, 1]
    assert "may lose 10 %: regression" in run("diff", *paths, "--max-slowdown", "10 %").out
    for limit in ("a fifth", "20 percent", ""):
        refused = run("diff", *paths, f"--max-slowdown={limit}")
        check_refused(refused, "--max-slowdown .* is no part of the whole: write it as in 20% or 0.2")
    for limit in ("0%", "100%", "20", "-5%"):
        check_refused(run("diff", *paths, f"--max-slowdown={limit}"), "is no limit")


def test_what_cannot_be_compared_is_exit_code_2_and_one_line(run: Run, tmp_path: Path) -> None:
    other = replace(RUN, environment=replace(ENVIRONMENT, tokens_sha256="cd" * 32))
    paths = save(tmp_path, before=RUN, after=other)
    check_refused(run("diff", *paths), "cannot be compared, they differ in tokens_sha256: ")
    outcome = run("diff", *paths, "--sizes-only")
    assert outcome.code == 0
    assert "accuracy was not judged, not comparable: tokens_sha256" in outcome.out
    (tmp_path / "cut.json").write_text(comparison_json(RUN)[:-99], encoding="utf-8")
    check_refused(run("diff", paths[0], tmp_path / "cut.json"), r"cut\.json is not valid JSON")
    (tmp_path / "new.json").write_text('{"schema": 2, "results": []}', encoding="utf-8")
    check_refused(run("diff", tmp_path / "new.json", paths[0]), r"new\.json has schema 2")
    check_refused(run("diff", paths[0], tmp_path / "gone.json"), "cannot be read")
    check_refused(run("diff", paths[0], paths[0], "--json", "--markdown"), "choose one")
