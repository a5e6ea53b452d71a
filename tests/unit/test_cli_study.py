"""`quant study` as a user runs it, on the embedded model, in its quick version."""

import json
from pathlib import Path

import pytest

from quant.cli.progress import shares_bar
from quant.study.page import FIGURES, NAME
from tests.unit.cli_runner import Run, check_refused
from tests.unit.study.planted import plant


@pytest.mark.usefixtures("single_threaded")
def test_the_quick_study_measures_everything(run: Run, tmp_path: Path) -> None:
    outcome = run("study", "--quick", "--out", tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    files = [f"{NAME}.md", f"{NAME}.json", *(f"{NAME}/{name}.svg" for name in FIGURES)]
    assert outcome.out.split() == [str(tmp_path / name) for name in files]
    records = json.loads((tmp_path / f"{NAME}.json").read_text(encoding="utf-8"))
    assert records["float_bytes"] == 28_849_408  # as in the README
    assert [(m["format"], m["block_size"]) for m in records["models"]] == [("int4", 64), ("nf4", 64)]
    assert all(m["ratio_interval"][0] < m["ratio"] < m["ratio_interval"][1] for m in records["models"])
    assert [(s["format"], len(s["over_int4"])) for s in records["speeds"]] == [
        (name, 2) for name in ("float", "nf4", "fp4", "int4")
    ]
    assert len(records["layers"]) == 2
    assert all(20 < layer["sqnr"]["nf4"] < 22 for layer in records["layers"])  # of a normal weight, derived: 20.7
    derived = [e for e in records["errors"] if e["derived"] is not None]
    assert len(derived) == 4 * 3
    assert all(abs(e["relative_mse"] / e["derived"] - 1) < 0.15 for e in derived)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--out", "/missing/folder/out"), "--out /missing/folder/out: the folder /missing/folder does not exist"),
        (("--out", __file__), "is a file: name a folder"),
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
    monkeypatch.setattr("quant.study.run.run_study", lambda *_: pytest.fail("measured"))
    defaults = () if "--out" in options else ("--out", tmp_path)
    check_refused(run("study", *options, *defaults), message)


def test_without_out_the_files_go_to_a_folder_of_their_own(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not to the docs/ of the project that it is called in."""
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("quant.study.run.run_study", lambda *_: plant())
    monkeypatch.setattr("quant.study.page.FIGURES", {})
    outcome = run("study")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.split() == [f"nf4-vs-linear-study/{NAME}.md", f"nf4-vs-linear-study/{NAME}.json"]
    assert [path.name for path in tmp_path.rglob("*.md")] == [f"{NAME}.md"]
    assert list((tmp_path / "docs").iterdir()) == []


def test_a_terminal_sees_the_phase_and_how_far_the_whole_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    with shares_bar("study", {"codes": 20, "model": 80}) as watch:
        watch("codes", 4, 4)
        watch("model", 1, 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert "study" in err
    assert "model" in err
