"""Options out of range or misspelt: one line, exit code 2, and nothing loaded, looked for or fetched before."""

from pathlib import Path

import pytest

from quant.cli.options import parse_fraction
from quant.errors import QuantError
from tests.unit.cli_runner import QUICK, Run, check_refused

pytestmark = pytest.mark.usefixtures("quick_comparisons")


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--schemes", "w8a17"), "unknown scheme 'w8a17': use one of baseline, w8a16, "),
        (("--schemes", "w8a16,,nf5"), "unknown scheme 'nf5'"),
        (("--schemes", ""), r"unknown scheme \(none\)"),
        (("--block-size", 48), "block_size 48 is not allowed, use one of 32, 64, "),
        (("--block-size", 0), "block_size 0 is not allowed"),
        (("--scale", "max"), 'scale must be "absmax" or "mse", got \'max\''),
        (("--bos", "always", "--window", 1), "window 1 leaves no room for a token, use at least 2"),
        (("--bos", "always", "--stride", 24), "stride 24 is out of range, use 1 to 23"),
        (("--json", "text.txt", "--report", __file__), "is a file: name a folder"),
        (("--text", "missing.txt"), r"missing\.txt cannot be read"),
        (("--dataset", "some/dataset"), "--text and --dataset are two texts"),
        (("--json", "/missing/folder/out.json"), "--json /missing/folder/out.json"),
        (("--json", "."), r"--json \."),
        (("--report", "/missing/folder/out"), "--report /missing/folder/out"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_a_bad_option_is_refused_before_a_model_is_loaded(
    run: Run, model_folder: Path, text_file: Path, options: tuple[object, ...], message: str
) -> None:
    check_refused(run("compare", model_folder, "--text", text_file, *QUICK, *options), message)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--window", 257), "window 257 exceeds the model's 256 positions"),
        (("--new-tokens", 500), "exceeds the model's 256 positions"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_an_option_that_the_config_rules_out_is_refused_before_a_model_is_loaded(
    run: Run, model_folder: Path, text_file: Path, options: tuple[object, ...], message: str
) -> None:
    check_refused(run("compare", model_folder, "--text", text_file, *QUICK, *options), message)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--schemes", "w8a17"), "unknown scheme"),
        (("--block-size", 48), "block_size 48"),
        (("--json", "/missing/folder/out.json"), "--json"),
        (("--text", "missing.txt"), r"missing\.txt cannot be read"),
        (("--dtype", "int8"), "unknown dtype 'int8': use auto, float32"),
        (("--bos", "sometimes"), "unknown BOS rule 'sometimes': use auto, always or never"),
        (("--device", "tpu:x"), "unknown device 'tpu:x': use cpu"),
        (("--device", "cuda:99"), "device 'cuda:99' is not there"),
        (("--window", 24, "--stride", 25), "--stride 25 is larger than --window 24 .*use at most 24"),
        (("--window", 0), "--window.*: see quant compare --help"),
        (("--stride", 0), "--stride.*: see quant compare --help"),
        (("--max-tokens", 1), "--max-tokens.*: see quant compare --help"),
        (("--batch-size", 0), "--batch-size.*: see quant compare --help"),
        (("--new-tokens", 0), "--new-tokens.*: see quant compare --help"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_what_needs_no_model_is_checked_before_the_model_is_looked_for(
    run: Run, options: tuple[object, ...], message: str
) -> None:
    """It may be a hub id, and gigabytes; so may the data set."""
    text = () if "--text" in options else ("--dataset", "some/dataset")
    check_refused(run("compare", "some-organisation/some-model", *text, *options), message)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--block-size", 48), "block_size 48 is not allowed"),
        (("--dtype", "int8"), "unknown dtype 'int8'"),
        (("--scheme", "bnb-nf4"), "cannot size 'bnb-nf4'"),
    ],
    ids=["block size", "dtype", "scheme"],
)
def test_inspect_checks_its_options_before_it_looks_for_the_model(
    run: Run, options: tuple[object, ...], message: str
) -> None:
    """The block size too, whether or not the scheme has blocks, as in compare."""
    check_refused(run("inspect", "some-organisation/some-model", *options), message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compare", "--window", "many"), "--window.*: see quant compare --help$"),
        (("compare", "--nonsense"), "--nonsense.*: see quant compare --help$"),
        (("compare", "--json"), "--json.*: see quant .*--help$"),
        (("inspect", "one", "two"), "two.*: see quant inspect --help$"),
        (("measure",), "measure.*: see quant --help$"),
    ],
    ids=["not a number", "unknown option", "no value", "too many arguments", "unknown command"],
)
def test_what_cannot_be_parsed_is_one_line_that_names_the_help(
    run: Run, arguments: tuple[str, ...], message: str
) -> None:
    check_refused(run(*arguments), message)


def test_the_embedded_text_is_measured_in_part_and_a_user_s_as_a_whole(
    run: Run, model_folder: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def cut_windows(*arguments: object) -> None:
        asked.append(arguments[-1])
        raise QuantError("seen")

    monkeypatch.setattr("quant.cli.compare.cut_windows", cut_windows)
    monkeypatch.setattr("quant.cli.compare.read_text", lambda *_: "some text")
    for options in ((), ("--max-tokens", 5), ("--text", text_file)):
        check_refused(run("compare", model_folder, *options), "seen")
    assert asked == [32768, 5, None]


def test_an_interrupt_is_told_in_a_word_with_the_exit_code_of_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("quant.cli.compare.check_variants", interrupted)
    outcome = run("compare", "--schemes", "w8a16")
    assert (outcome.code, outcome.out, outcome.err) == (130, "", "quant: interrupted\n")


def test_an_error_of_the_system_that_nobody_expected_keeps_its_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("quant.cli.compare.check_variants", fail)
    with pytest.raises(OSError, match="Input/output error"):
        run("compare", "--schemes", "w8a16")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1%", 0.01),
        ("0.5%", 0.005),
        (" 2 % ", 0.02),
        ("0.01", 0.01),
        ("0", 0),
        ("0%", 0),
        ("-5%", -0.05),
        ("120%", 1.2),
    ],
)
def test_a_part_is_a_percentage_or_a_fraction(text: str, value: float) -> None:
    """Whether it is one that an option can take is for who takes it."""
    assert parse_fraction("--part", text) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("text", ["", "%", "one", "1%%", "20 percent", "nan", "inf", "inf%", "1e999"])
def test_what_is_no_number_is_no_part(text: str) -> None:
    with pytest.raises(QuantError, match=r"^--part .* is no part of the whole: write it as in 20% or 0\.2"):
        parse_fraction("--part", text)
