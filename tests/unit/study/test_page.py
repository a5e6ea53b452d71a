"""The page is a function of its records, to the byte; what is committed in docs/ is what its own records give."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from quant.drawing.svg import svg_file
from quant.errors import QuantError
from quant.study.chart import drawing
from quant.study.page import FIGURES, NAME, read_json, shortened, to_files, to_json, to_page
from quant.study.records import Study
from quant.study.settings import Settings
from quant.study.summary import in_short
from tests.unit.cli_runner import Run
from tests.unit.study.planted import changed, plant

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return to_files(plant())


def test_the_same_records_give_the_same_bytes(files: dict[str, str], run: Run, tmp_path: Path) -> None:
    """Also when they have been a file; the figures have neither a date nor random names."""
    (tmp_path / "records.json").write_text(files[f"{NAME}.json"], encoding="utf-8")
    outcome = run("study", "--from", tmp_path / "records.json", "--out", tmp_path / "out")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.split() == [str(tmp_path / "out" / path) for path in files]
    written = {path: (tmp_path / "out" / path).read_bytes().decode() for path in files}
    assert written == files
    assert sum(path.is_file() for path in (tmp_path / "out").rglob("*")) == len(files)


def test_other_records_give_another_page_and_another_figure(files: dict[str, str]) -> None:
    other = changed(plant(), "errors", lambda row: row.format == "nf4", relative_mse=0.03)
    assert to_page(other) != files[f"{NAME}.md"]
    with drawing():
        assert svg_file(FIGURES["sqnr"](other)) != files[f"{NAME}/sqnr.svg"]


def test_a_run_that_measured_less_says_so(files: dict[str, str]) -> None:
    study = plant()
    assert shortened(replace(study, settings=Settings())) == []
    less = Settings(block_sizes=(32, 64), tokens=641)
    sizes = "block_sizes 32, 64 for 32, 64, 128, 256, 512, 1024, 2048, 4096"
    assert shortened(replace(study, settings=less)) == [sizes, "tokens 641 for 32768"]
    said = re.search(r"measured less than a whole one\*\*: (.*)\. Its", files[f"{NAME}.md"])
    assert said
    assert said[1].split("; ") == shortened(study)
    assert "layers 2 for all" in shortened(study)
    assert files[f"{NAME}.md"].split("\n\n")[1].startswith("**By a run that measured less")
    assert "By `quant study`, less than all of it, as the top of the page says." in files[f"{NAME}.md"]


def test_a_whole_run_has_no_such_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quant.study.page.shortened", lambda study: [])
    page = to_page(plant())
    assert page.split("\n\n")[1] == "## In short"
    assert "By `quant study`, all of it." in page
    assert "measured less" not in page


def test_the_conclusion_is_the_first_section(files: dict[str, str]) -> None:
    _, first, _ = files[f"{NAME}.md"].split("\n## ", 2)
    assert first.startswith("In short\n")
    assert tuple(re.findall("^- (.*)", first, re.MULTILINE)) == in_short(plant())


def test_the_command_on_the_page_makes_it_again(
    files: dict[str, str], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the folder of the page, wherever that is."""
    (tmp_path / f"{NAME}.json").write_text(files[f"{NAME}.json"], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("quant.study.page.FIGURES", {})
    (command,) = re.findall("`quant (study --from [^`]+)`", files[f"{NAME}.md"])
    assert run(*command.split()).code == 0
    assert (tmp_path / f"{NAME}.md").read_text(encoding="utf-8") == files[f"{NAME}.md"]


def test_every_figure_is_on_the_page_with_words_for_those_who_do_not_see_it(files: dict[str, str]) -> None:
    shown = dict(re.findall(r"!\[([^]]*)\]\(([^)]+)\)", files[f"{NAME}.md"]))
    assert sorted(shown.values()) == sorted(f"{NAME}/{name}.svg" for name in FIGURES)
    assert all(len(words.split()) > 15 for words in shown)


def test_figures_are_small_svg_with_their_text_as_text(files: dict[str, str]) -> None:
    for path, text in files.items():
        if path.endswith(".svg"):
            written = [
                element.text or "" for element in ElementTree.fromstring(text).iter() if element.tag.endswith("}text")
            ]
            assert sum(bool(re.search("[a-z]{3}", words)) for words in written) >= 2, path
            assert len(text) < 150_000, path
            assert "<dc:date>" not in text


def test_a_tick_keeps_its_digits(files: dict[str, str]) -> None:
    """Coordinates are rounded, what is written is not: 0.0125 must not become 0.01."""
    assert ">4.016<" in files[f"{NAME}/model.svg"]


def test_tables_are_whole(files: dict[str, str]) -> None:
    """Every row of a table has as many cells as its header, and no cell is an undefined value."""
    blocks = re.findall(r"(?:^\|.*\n)+", files[f"{NAME}.md"], re.MULTILINE)
    assert len(blocks) == 12
    for block in blocks:
        assert {row.count("|") for row in block.replace("|w|", "").splitlines()} == {block.splitlines()[0].count("|")}
    assert "None" not in files[f"{NAME}.md"]


def test_no_line_of_the_page_ends_in_a_blank(files: dict[str, str]) -> None:
    assert not re.search(r"[ \t]$", files[f"{NAME}.md"], re.MULTILINE)
    assert "\n\n\n" not in files[f"{NAME}.md"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", r"is not the JSON of a study \("),
        ("[" * 100_000, r"is not the JSON of a study \("),
        ("[]", "is not the JSON of a study"),
        ('{"codes": []}', "is not the JSON of a study"),
        ('{"schema": 2}', "is a study of another schema than 1"),
        ('{"schema": true}', "is a study of another schema than 1"),
        ('{"schema": 1, "codes": []}', r"is damaged \(environment is missing\)"),
    ],
    ids=["no JSON", "too deep", "a list", "no schema", "another schema", "a schema that is no number", "no parts"],
)
def test_what_is_no_study_is_refused(text: str, message: str) -> None:
    with pytest.raises(QuantError, match=f"^some.json {message}.*: measure anew, without --from$"):
        read_json(text, "some.json")


def test_numbers_that_json_does_not_have_are_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(changed(plant(), "models", lambda row: True, perplexity=float("inf")))


def test_the_page_in_the_documents_is_what_its_records_give() -> None:
    """Its figures are those of one version of matplotlib, and are not compared."""
    text = (DOCS / f"{NAME}.json").read_text(encoding="utf-8")
    study: Study = read_json(text, "docs")
    assert (DOCS / f"{NAME}.md").read_text(encoding="utf-8") == to_page(study)
    assert text == to_json(study)
    assert sorted(path.stem for path in (DOCS / NAME).iterdir()) == sorted(FIGURES)
    assert shortened(study) == []
