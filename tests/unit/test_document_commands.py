"""Every command in the documents is run as it is written: here those of `quant`, and pytest's on a user's model; by CI
what it runs anyway. What needs a hub, a GPU or hours is parsed, and listed with where it is run, or that nobody does.
"""

import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from quant import NF4, MixedPrecision, cli
from quant.checkpoint.folder import open_checkpoint
from tests.unit.cli_runner import Run

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "quant/reference_model/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
ABSENT = ("org/name", "./larger-than-a-gpu", "accelerate launch", "--device cuda", "docs/images/", "--budget 1%")
"""Parts of commands that take more than a test has, or write figures of the documents: they are parsed only."""
ELSEWHERE = {
    'pytest -m "not gpu"': ".ci/run",
    "python -m tests.branch_coverage": ".ci/run",
    "pytest tests/benchmarks": ".ci/run",
    "-m pytest -m gpu --device cpu --model reference": ".ci/run",
    "venv/bin/pip install -c constraints.txt -e": ".ci/run",
    "quant compare": ".ci/run",
    "ruff check .": ".ci/run",
    "ruff format --check .": ".ci/run",
    "lint-imports": ".ci/run",
    "mypy": ".ci/run",
    "actionlint": ".ci/run",
    "zizmor --offline .github": ".ci/run",
    "mkdocs build --strict": ".ci/run",
    "pytest -m gpu": ".github/workflows/gpu.yml",
    "--benchmark-compare --benchmark-compare-fail median:10%": ".github/workflows/gpu.yml",
    "tox": ".github/workflows/nightly.yml",
    "python -m tests.mutation.planted": ".github/workflows/nightly.yml",
    "python -m tests.mutation.run": ".github/workflows/nightly.yml",
    "python3 -m venv .venv": ".ci/run",
}
"""What a command says, and the file by which it is run, in which it stands too."""
BY_HAND = (
    *("python -m tests.full_size.", "python -m tests.measured", "python -m tests.accuracy.power"),
    *(
        "python -m tests.flakes.hunt",
        "python -m tests.benchmarks.gating.measure",
        "python -m quant.reference_model.train",
    ),
    *("pytest tests/accuracy/test_gates.py --update-thresholds", "npm pack", "tar xzf", "kill %1", ".ci/run"),
    *(". .venv/bin/activate", "pip install -c constraints.txt -e '.[dev]'", "pre-commit install"),
)
"""They measure for minutes or hours, write files of this repository, fetch, or are about the shell or all of CI. Of the
modules among them the options are compared with the source.
"""


def commands(document: Path) -> list[str]:
    """Those of its sh blocks, without comments; `a && b` are two."""
    blocks = re.findall(r"^```sh\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = [re.sub(r"\s+#.*", "", line) for block in blocks for line in block.splitlines()]
    return [command for line in lines for command in line.split(" && ")]


ALL = [command for document in DOCUMENTS for command in commands(document)]


def of_ours(command: str) -> bool:
    return command.startswith("quant ") and not any(part in command for part in ABSENT)


def has_some_of_its_own(document: Path) -> bool:
    """Whether it has commands of ours that no other document has."""
    others = {command for other in DOCUMENTS if other != document for command in commands(other)}
    return any(of_ours(command) and command not in others for command in commands(document))


def of_a_project(command: str) -> bool:
    """Of the example too, which has its own test."""
    return command in ("pytest --update-thresholds", "pytest")


@pytest.fixture
def user(
    model_folder: Path, text_file: Path, their_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with a model, one of bitsandbytes', a text and a plan, as documents call them."""
    shutil.copytree(model_folder, tmp_path / "my-model")
    shutil.copytree(their_folder, tmp_path / "my-model-bnb-4bit")
    (tmp_path / "holdout.txt").write_text(text_file.read_text(encoding="utf-8")[:1500], encoding="utf-8")
    layers = open_checkpoint(model_folder).tensors
    plan = MixedPrecision({name.removesuffix(".weight"): NF4() for name in layers if name.endswith("_proj.weight")})
    (tmp_path / "plan.json").write_text(replace(plan, layers={**plan.layers, "lm_head": None}).to_json(), "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("quick_comparisons")
@pytest.mark.parametrize(
    "document",
    [document for document in DOCUMENTS if has_some_of_its_own(document)],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_commands_of_quant_succeed_in_the_order_of_the_document(document: Path, user: Path, run: Run) -> None:
    for command in filter(of_ours, commands(document)):
        outcome = run(*shlex.split(command)[1:])
        assert (outcome.code, outcome.err) == (0, ""), command
        assert outcome.out


@pytest.mark.parametrize("command", [command for command in ALL if any(part in command for part in ABSENT)])
def test_commands_that_take_more_are_understood(command: str) -> None:
    """Their options exist and take these values; nothing is run."""
    name, *arguments = shlex.split(command.rpartition("quant ")[2])
    parsed = typer.main.get_command(cli.app).commands[name]  # type: ignore[attr-defined]
    model = arguments[0] if not arguments[0].startswith("-") else "reference"
    assert parsed.make_context(name, arguments.copy()).params["model"] == model


def test_those_that_hold_a_model_record_and_pass(
    pytester: pytest.Pytester, model_folder: Path, text_file: Path
) -> None:
    document = ROOT / "docs/how-to/hold-your-model.md"
    text = document.read_text(encoding="utf-8")
    settings, program = (
        re.findall(rf"^```{kind}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[0] for kind in ("ini", "python")
    )
    pytester.makeini(settings)
    pytester.makepyfile(test_model=program)
    shutil.copytree(model_folder, pytester.path / "my-model")
    shutil.copy(text_file, pytester.path / "held_out.txt")
    first, second = filter(of_a_project, commands(document))
    pytester.runpytest_inprocess(*shlex.split(first)[1:]).assert_outcomes(skipped=2)
    pytester.runpytest_inprocess(*shlex.split(second)[1:]).assert_outcomes(passed=2)


@pytest.mark.parametrize("command", sorted(set(ALL)))
def test_every_command_is_run_or_has_its_reason(command: str) -> None:
    if of_ours(command) or of_a_project(command) or any(part in command for part in ABSENT):
        return
    if any(part in command for part in BY_HAND):
        module = re.search(r"python -m ([\w.]+)(.*)", command)
        if module:
            source = (ROOT / module[1].replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
            assert [option for option in re.findall(r"(?<=\s)--[\w-]+", module[2]) if f'"{option}"' not in source] == []
        return
    places = [place for part, place in ELSEWHERE.items() if part in command]
    assert places, f"{command} is run by nothing: add it to what is run, or to a list here with its reason"


@pytest.mark.parametrize(("part", "place"), ELSEWHERE.items())
def test_what_is_run_elsewhere_is(part: str, place: str) -> None:
    assert part.removeprefix("pytest ") in (ROOT / place).read_text(encoding="utf-8")
    assert any(part in command for command in ALL)


def test_a_document_s_commands_are_found() -> None:
    assert len(ALL) > 40
    assert all(commands(ROOT / name) for name in ("README.md", "docs/how-to/compare-schemes.md"))
