"""The plugin as another repository uses it: its two lines, its options and settings, and all that must not be green.

Each test is a project of its own in a temporary folder, with the tiny model and a few thousand tokens.
"""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from quant import gate_reports
from quant.evaluate.divergence import Baseline
from quant.evaluate.thresholds import ThresholdFile
from quant.gated_model import GatedModel

ROOT = Path(__file__).parents[2]
GATED = "def test_accuracy(quant_scheme, accuracy_gate):\n    accuracy_gate(quant_scheme)\n"


@pytest.fixture
def project(pytester: pytest.Pytester, model_folder: Path, text_file: Path) -> pytest.Pytester:
    """A repository that holds the tiny model, nothing recorded yet."""
    pytester.makepyfile(test_model=GATED)
    pytester.makeini(f"[pytest]\nquant_model = {model_folder}\nquant_text = {text_file}\nquant_schemes = w8a16, nf4\n")
    return pytester


@pytest.fixture(scope="module")
def thresholds(model_folder: Path, text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the project records, made once."""
    file = ThresholdFile(tmp_path_factory.mktemp("thresholds") / "thresholds.json")
    model = GatedModel(str(model_folder), text_file, "cpu", file)
    for scheme in ("w8a16", "nf4"):
        model.record(scheme, "pytest --update-thresholds")
    return file.path


@pytest.fixture
def recorded(project: pytest.Pytester, thresholds: Path) -> pytest.Pytester:
    """The same with its thresholds recorded."""
    shutil.copy(thresholds, project.path)
    return project


def entries(project: pytest.Pytester) -> dict[str, dict[str, object]]:
    content = json.loads((project.path / "thresholds.json").read_text(encoding="utf-8"))
    (model,) = content["thresholds"].values()
    result: dict[str, dict[str, object]] = model
    return result


def test_recording_then_holding(project: pytest.Pytester) -> None:
    project.runpytest_inprocess("--update-thresholds").assert_outcomes(skipped=2)
    assert list(entries(project)) == ["w8a16", "nf4"]
    before = (project.path / "thresholds.json").read_bytes()
    result = project.runpytest_inprocess("-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_accuracy?w8a16?*", "*test_accuracy?nf4?*"])
    assert (project.path / "thresholds.json").read_bytes() == before


def test_the_recording_says_that_nothing_was_judged(project: pytest.Pytester) -> None:
    result = project.runpytest_inprocess("--update-thresholds", "--schemes", "nf4", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*threshold of nf4 was written to *thresholds.json, nothing was judged*"])
    provenance = entries(project)["nf4"]["provenance"]
    assert isinstance(provenance, dict)
    assert provenance["command"].startswith("pytest")
    assert {"tokens_sha256", "scored_tokens", "window", "versions", "noise_seed", "cpu"} <= set(provenance)


def test_updating_one_scheme_leaves_the_other(recorded: pytest.Pytester) -> None:
    before = entries(recorded)
    recorded.runpytest_inprocess("--update-thresholds", "--schemes", "nf4").assert_outcomes(skipped=1)
    assert entries(recorded)["w8a16"] == before["w8a16"]


def test_recording_tells_what_it_changed(recorded: pytest.Pytester, model_folder: Path) -> None:
    file = ThresholdFile(recorded.path / "thresholds.json")
    old = dataclasses.replace(file.read(model_folder.name, "w8a16"), perplexity_ratio=1.5)
    file.path.unlink()
    file.write(model_folder.name, "w8a16", old)
    result = recorded.runpytest_inprocess("--update-thresholds")
    power = (
        "  a worsening of * % of the perplexity ratio, or * % of the KL divergence, is caught at a false-alarm rate of*"
    )
    result.stdout.fnmatch_lines(
        ["*thresholds recorded*", "w8a16: perplexity ratio 1.500000 -> 0.99*, KL divergence * -> * nats", power]
    )
    result.stdout.fnmatch_lines(["nf4: new, perplexity ratio 0.99*, KL divergence * nats", power])


def test_recording_needs_no_terminal(project: pytest.Pytester) -> None:
    result = project.runpytest_inprocess("--update-thresholds", "--schemes", "nf4", "-p", "no:terminal")
    assert result.ret is pytest.ExitCode.OK
    assert list(entries(project)) == ["nf4"]


@pytest.mark.parametrize(("limit", "warned"), [(0.0, 1), (1.0, 0)])
def test_a_pass_tells_its_figures_and_poor_power(
    recorded: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, limit: float, warned: int
) -> None:
    monkeypatch.setattr(gate_reports, "POOR_POWER", limit)
    result = recorded.runpytest_inprocess("--schemes", "nf4", "-rP", "-W", "always")
    result.assert_outcomes(passed=1, warnings=warned)
    result.stdout.fnmatch_lines(["*accuracy gate*", "nf4: pass", "*perplexity ratio*: pass", "a worsening of *"])
    if warned:
        result.stdout.fnmatch_lines(["*PoorPowerWarning: nf4: of * tokens, only *: hold it to more text*"])


def test_a_model_that_is_not_the_recorded_one_fails(recorded: pytest.Pytester) -> None:
    """NF4's weights held to W8A16's threshold."""
    recorded.makepyfile(
        test_model="""
        import quant
        from quant.integrations.transformers import load_model

        def test_accuracy(gated_model, accuracy_gate):
            source = gated_model.source
            accuracy_gate("w8a16", quant.quantize(load_model(source.folder, source.dtype), quant.NF4()))
        """
    )
    result = recorded.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["w8a16: regression", "*KL divergence * recorded, * now:*: regression"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_model_of_the_test_is_recorded_and_held(project: pytest.Pytester) -> None:
    """Where every test quantizes its own model, the command that the refusal names is the one that records."""
    project.makepyfile(
        test_model="""
        import quant
        from quant.integrations.transformers import load_model

        def test_accuracy(gated_model, accuracy_gate):
            source = gated_model.source
            model = quant.quantize(load_model(source.folder, source.dtype), quant.NF4(block_size=32))
            accuracy_gate("nf4", model=model)
        """
    )
    result = project.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*has no threshold in *: record it with pytest --update-thresholds"])
    project.runpytest_inprocess("--update-thresholds").assert_outcomes(skipped=1)
    project.runpytest_inprocess().assert_outcomes(passed=1)
    project.makepyfile(test_model=GATED)
    project.runpytest_inprocess("--schemes", "nf4").assert_outcomes(failed=1)


def test_a_budget_is_judged_while_recording(project: pytest.Pytester) -> None:
    project.makepyfile(test_model="def test_it(accuracy_gate):\n    accuracy_gate('int4', max_kl=1.0)\n")
    project.runpytest_inprocess("--update-thresholds").assert_outcomes(passed=1)


@pytest.mark.parametrize(("limit", "outcome"), [(1.0, "passed"), (1e-6, "failed")])
def test_a_budget_needs_no_threshold(project: pytest.Pytester, limit: float, outcome: str) -> None:
    """INT4 costs the tiny model some 0.03 nats (`tests.measured.VARIANT_KL`), far from both limits."""
    project.makepyfile(
        test_model=f"""
        def test_accuracy(accuracy_gate):
            result = accuracy_gate("int4", max_kl={limit})
            assert len(result.checks) == 1
        """
    )
    project.runpytest_inprocess().assert_outcomes(**{outcome: 1})


def test_a_scheme_without_a_threshold_fails_alone(recorded: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of the project run."""
    monkeypatch.setattr(Baseline, "__init__", lambda *arguments: pytest.fail("measured"))
    recorded.makepyfile(test_other="def test_it():\n    pass\n")
    result = recorded.runpytest_inprocess("--schemes", "int4")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["int4 of tiny-phi3* has no threshold in *: record it with pytest --update-thresholds"])
    result.stdout.no_fnmatch_line("*handling of the above exception*")


@pytest.mark.parametrize("none", ["model=None", "model=None, max_kl=1.0"])
@pytest.mark.parametrize("options", [(), ("--update-thresholds",)])
def test_no_model_is_told_before_anything_is_measured(
    recorded: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, none: str, options: tuple[str, ...]
) -> None:
    recorded.makepyfile(test_model=f"def test_it(accuracy_gate):\n    accuracy_gate('nf4', {none})\n")
    monkeypatch.setattr(Baseline, "__init__", lambda *arguments: pytest.fail("measured"))
    result = recorded.runpytest_inprocess(*options)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["nf4: model=None is no model, has its helper no return?*"])


def test_a_name_is_recorded_once_in_a_run(project: pytest.Pytester) -> None:
    project.makepyfile(
        "import pytest\n\n@pytest.mark.parametrize('run', [1, 2])\n"
        "def test_it(accuracy_gate, run):\n    accuracy_gate('nf4')\n"
    )
    result = project.runpytest_inprocess("--update-thresholds", "test_a_name_is_recorded_once_in_a_run.py")
    result.assert_outcomes(skipped=1, failed=1)
    result.stdout.fnmatch_lines(["the threshold of nf4 was written by another test of this run, which stays:*"])
    assert list(entries(project)) == ["nf4"]


CLAIM = """
def pytest_addoption(parser):
    parser.addoption("--model", default="theirs")
    parser.addoption("--device", action="store_true")
"""
SHOWN = """
def test_options(pytestconfig):
    print("quant:", pytestconfig.getoption("quant_model"), pytestconfig.getoption("quant_device"))
    print("own:", pytestconfig.getoption("model", None), pytestconfig.getoption("device", None))
"""


@pytest.mark.parametrize("where", ["conftest", "before", "after"])
def test_options_of_the_project_go_before_ours(pytester: pytest.Pytester, where: str) -> None:
    """A conftest.py's, and those of plugins that are loaded before ours and after it."""
    pytester.makepyfile(SHOWN)
    pytester.makepyfile(**{where: CLAIM})
    plugins = [] if where == "conftest" else ["-p", where]
    ours = ["-p", "quant.pytest_plugin"]
    pytester.syspathinsert()
    result = pytester.runpytest_inprocess(
        "--disable-plugin-autoload",
        *(plugins + ours if where == "before" else ours + plugins),
        *["-s", "--model", "mine", "--device", "--quant-model=other", "--quant-device", "meta"],
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*quant: other meta", "own: mine True*"])


def test_short_options_are_ours_where_nobody_has_them(pytester: pytest.Pytester) -> None:
    """And the folder of a model is no folder of tests: the project's conftest.py is found."""
    pytester.makepyfile(SHOWN)
    pytester.makeconftest("def pytest_addoption(parser):\n    parser.addoption('--theirs')\n")
    folder = pytester.mkdir("inner")
    pytester.makepyfile(**{"inner/test_more": SHOWN})
    other = pytester.path.parent / f"{pytester.path.name}-model"
    other.mkdir()
    result = pytester.runpytest_inprocess("-s", "--theirs=1", "--model", str(other), "--device=meta", "-c", "/dev/null")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines([f"*quant: {other} meta", "own: None None*"])
    assert folder.is_dir()
    result = pytester.runpytest_inprocess("--help")
    result.stdout.fnmatch_lines(["*--quant-model=MODEL*", "*--model too, unless a conftest.py or another*"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--schemes", "nf5"], "unknown scheme 'nf5': use one of *"),
        (["--schemes", ""], "--schemes (quant_schemes) names no scheme: pass some of *"),
        (["--schemes", " , "], "--schemes (quant_schemes) names no scheme: pass some of *"),
    ],
)
def test_what_selects_nothing_stops_the_run(recorded: pytest.Pytester, arguments: list[str], message: str) -> None:
    result = recorded.runpytest_inprocess(*arguments)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([message])
    assert result.ret is pytest.ExitCode.INTERRUPTED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "./no-such"], "model './no-such': no such folder*"),
        (["--text", "no-such.txt"], "*no-such.txt cannot be read*"),
        (["--thresholds", "missing.json"], "* has no threshold in missing.json*"),
        (["--thresholds", "missing/thresholds.json"], "* has no threshold in missing/thresholds.json*"),
    ],
)
def test_what_is_not_there_is_told_while_holding(recorded: pytest.Pytester, arguments: list[str], message: str) -> None:
    result = recorded.runpytest_inprocess(*arguments)
    assert result.ret is pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([message])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "./no-such-folder"], "*no-such-folder*"),
        (["--text", "no-such.txt"], "*no-such.txt cannot be read*"),
        (["--device", "nowhere"], "*nowhere*"),
        (["--schemes", "baseline"], "*baseline is what schemes are held against*"),
        (["--thresholds", "missing/thresholds.json"], "*there is no folder missing, make it first"),
    ],
)
def test_what_is_not_there_is_told_while_recording(
    project: pytest.Pytester, arguments: list[str], message: str
) -> None:
    result = project.runpytest_inprocess("--update-thresholds", *arguments)
    assert result.ret is pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([message])
    assert not (project.path / "thresholds.json").exists()


def test_recording_in_several_processes_is_refused(project: pytest.Pytester) -> None:
    result = project.runpytest_inprocess("--update-thresholds", "-n", "2")
    assert result.ret is pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--update-thresholds writes one file: run it in one process, with -n 0"])


def test_recording_takes_one_process_where_xdist_chooses(project: pytest.Pytester) -> None:
    """Whatever a conftest.py of the project would choose."""
    project.makeconftest("def pytest_xdist_auto_num_workers(config):\n    return 2\n")
    project.runpytest_inprocess("--update-thresholds", "-n", "auto", "--schemes", "nf4").assert_outcomes(skipped=1)


def test_a_text_that_is_too_short_is_told_before_anything_is_measured(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.path.joinpath("short.txt").write_text("Fellow citizens, " * 30, encoding="utf-8")
    monkeypatch.setattr(Baseline, "__init__", lambda *arguments: pytest.fail("measured"))
    result = project.runpytest_inprocess("--update-thresholds", "--text", "short.txt")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*is too short for a standard error: it takes 20 windows of *, pass a longer one"])


@pytest.mark.parametrize("limits", ["max_kl=0.0", "max_perplexity_ratio=-1.0"])
def test_a_budget_that_is_none_is_told_before_anything_is_measured(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, limits: str
) -> None:
    project.makepyfile(test_model=f"def test_it(accuracy_gate):\n    accuracy_gate('nf4', {limits})\n")
    monkeypatch.setattr(Baseline, "__init__", lambda *arguments: pytest.fail("measured"))
    result = project.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*is not a limit: pass a positive number*"])


def test_settings_are_found_beside_the_configuration(
    pytester: pytest.Pytester, model_folder: Path, text_file: Path
) -> None:
    """Wherever pytest is started."""
    shutil.copytree(model_folder, pytester.path / "mine")
    shutil.copy(text_file, pytester.path / "text.txt")
    pytester.makeini("[pytest]\nquant_model = mine\nquant_text = text.txt\nquant_schemes = nf4\n")
    folder = pytester.mkdir("inside")
    folder.joinpath("test_model.py").write_text(GATED, encoding="utf-8")
    pytester.chdir()
    os.chdir(folder)
    pytester.runpytest_inprocess("--update-thresholds", "-c", "../tox.ini", "--rootdir", "..").assert_outcomes(
        skipped=1
    )
    assert (pytester.path / "thresholds.json").exists()


def test_options_go_before_settings(recorded: pytest.Pytester) -> None:
    result = recorded.runpytest_inprocess("--schemes", "w8a16", "--thresholds", str(recorded.path / "thresholds.json"))
    result.assert_outcomes(passed=1)


def test_a_run_without_its_fixtures_imports_no_torch(pytester: pytest.Pytester) -> None:
    """What the plugin costs every other project of the same environment."""
    pytester.makepyfile(
        "import sys\n\ndef test_it():\n    assert 'quant' in sys.modules\n    assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_example_holds_its_model(pytester: pytest.Pytester) -> None:
    """As committed, thresholds included."""
    shutil.copytree(ROOT / "examples" / "hold-a-model", pytester.path / "example")
    result = pytester.runpytest_inprocess("--rootdir", "example", "-c", "example/pytest.ini", "example")
    result.assert_outcomes(passed=2)
    source = (ROOT / "examples" / "hold-a-model" / "test_accuracy.py").read_text(encoding="utf-8")
    assert GATED in source


def test_other_weights_are_another_model_before_anything_is_measured(
    recorded: pytest.Pytester, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bit of one weight, which moves losses by less than rounding does."""
    other = shutil.copytree(model_folder, tmp_path / model_folder.name)
    weights = other / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-4] ^= 1
    weights.write_bytes(content)
    monkeypatch.setattr(GatedModel, "_load", lambda self, variant: pytest.fail("loaded"))
    result = recorded.runpytest_inprocess(f"--model={other}")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*the unquantized weights in * are not the recorded ones (SHA-256 *"])


def test_a_layer_left_unquantized_is_named(recorded: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    quantized = GatedModel._load
    name = "model.layers.0.self_attn.o_proj"

    def forgotten(self: GatedModel, variant: str) -> Any:
        model = quantized(self, variant)
        if variant == "nf4":
            model.set_submodule(name, model.get_submodule(name).dequantize())
        return model

    monkeypatch.setattr(GatedModel, "_load", forgotten)
    result = recorded.runpytest_inprocess()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([f"*layers in other formats than recorded: {name} was NF4(*), is Linear *: if the*"])
