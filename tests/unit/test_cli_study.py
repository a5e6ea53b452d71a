"""`quant study` as a user runs it, on the embedded model, in its quick version."""

import json
from pathlib import Path

import pytest

from quant.study.page import FIGURES, NAME
from tests.unit.cli_runner import Run, check_refused


@pytest.mark.slow  # measured: SECONDS
@pytest.mark.usefixtures("single_threaded")
def test_the_quick_study_measures_everything_and_makes_its_page_again(run: Run, tmp_path: Path) -> None:
    out, again = tmp_path / "out", tmp_path / "again"
    outcome = run("study", "--quick", "--out", out)
    assert (outcome.code, outcome.err) == (0, "")
    expected = [f"{NAME}.md", f"{NAME}.json", *(f"{NAME}/{name}.svg" for name in FIGURES)]
    assert outcome.out.split() == [str(out / name) for name in expected]
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert written == set(expected)
    records = json.loads((out / f"{NAME}.json").read_text(encoding="utf-8"))
    assert len({layer["layer"] for layer in records["layers"]}) == 24
    assert [(m["format"], m["block_size"]) for m in records["models"]] == [("int4", 64), ("nf4", 64)]
    assert all(m["ratio_interval"][0] < m["ratio"] < m["ratio_interval"][1] for m in records["models"])
    assert records["float_bytes"] == 28_849_408
    assert run("study", "--from", out / f"{NAME}.json", "--out", again).code == 0
    assert {name: (again / name).read_bytes() for name in written} == {
        name: (out / name).read_bytes() for name in written
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--out", "/missing/folder/out"), "--out /missing/folder/out: /missing/folder is no folder"),
        (("--out", __file__), "is no folder: name another"),
        (("--from", "missing.json"), r"--from missing\.json cannot be read"),
        (("--from", __file__), "is not the JSON of a study"),
        (("--from", "missing.json", "--quick"), "--from measures nothing"),
        (("--tokens", 1), "--tokens.*: see quant study --help"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_bad_options_are_refused_before_anything_is_measured(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[object, ...], message: str
) -> None:
    monkeypatch.setattr("quant.cli.study.run_study", lambda *_: pytest.fail("measured"))
    defaults = () if "--out" in options else ("--out", tmp_path)
    check_refused(run("study", *options, *defaults), message)
