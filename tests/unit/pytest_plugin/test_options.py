"""Options, settings, and what the plugin costs and takes from projects that do not use it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.pytest_plugin.projects import GATED

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
    other = pytester.path.parent / f"{pytester.path.name}-model"
    other.mkdir()
    pytester.makeini("[pytest]\n")
    result = pytester.runpytest_inprocess("-s", "--theirs=1", "--model", str(other), "--device=meta", "-c", "tox.ini")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"*quant: {other} meta", "own: None None*"])
    result = pytester.runpytest_inprocess("--help")
    result.stdout.fnmatch_lines(["*--quant-model=MODEL*", "*--model too, unless a conftest.py or another*"])


@pytest.mark.parametrize("name", ["--model", "--quant-text"])
def test_a_path_elsewhere_that_pytest_takes_for_tests_is_refused(pytester: pytest.Pytester, name: str) -> None:
    """pytest looks for its configuration around all paths among the arguments before any plugin is asked."""
    other = pytester.path.parent / f"{pytester.path.name}-elsewhere"
    other.mkdir()
    pytester.makepyfile(SHOWN)
    pytester.makeini("[pytest]\n")
    result = pytester.runpytest(name, str(other))
    assert result.ret is pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*pytest has taken {other} for tests and * there: write {name}={other}"])
    for arguments in ([f"{name}={other}"], [name, str(other), "--rootdir", ".", "-c", "tox.ini"]):
        result = pytester.runpytest(*arguments)
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(["configfile: tox.ini"])


def test_a_path_elsewhere_of_the_projects_own_option_is_its_own_matter(pytester: pytest.Pytester) -> None:
    """In every project of an environment that has the plugin, whether it is used or not."""
    other = pytester.path.parent / f"{pytester.path.name}-theirs"
    other.mkdir()
    pytester.makepyfile(SHOWN)
    pytester.makeconftest(CLAIM)
    result = pytester.runpytest_inprocess("-s", "--model", str(other))
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"own: {other} *"])


def test_short_options_are_ours_where_another_option_is_required(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SHOWN)
    pytester.makeconftest("def pytest_addoption(parser):\n    parser.addoption('--env', required=True)\n")
    result = pytester.runpytest_inprocess("-s", "--env", "test", "--model=other")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*quant: other None"])


def test_a_model_is_measured_on_the_cpu_unless_a_device_is_named(pytester: pytest.Pytester) -> None:
    """Told by the option's absence, so that a suite may have another default."""
    pytester.makeini("[pytest]\nquant_model = reference\n")
    pytester.makepyfile("def test_it(gated_model):\n    print('on', gated_model.device)\n")
    pytester.runpytest_inprocess("-s").stdout.fnmatch_lines(["*on cpu*"])
    pytester.runpytest_inprocess("-s", "--device=cuda:1").stdout.fnmatch_lines(["*on cuda:1*"])


def test_every_process_holds_the_model_that_was_asked_for(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "def test_options(pytestconfig):\n"
        "    assert pytestconfig.getoption('quant_model') == 'other'\n"
        "    assert pytestconfig.getoption('quant_device') == 'meta'\n"
    )
    pytester.runpytest("-n", "2", "--model=other", "--device", "meta").assert_outcomes(passed=1)


@pytest.mark.parametrize("name", ["model", "text"])
def test_a_model_and_its_text_are_named(pytester: pytest.Pytester, name: str) -> None:
    """Where `--model` is the project's, what was meant for ours is nothing, and the embedded model would be held."""
    pytester.makepyfile("def test_it(accuracy_gate):\n    accuracy_gate('nf4', max_kl=0.02)\n")
    pytester.makeconftest(f"def pytest_addoption(parser):\n    parser.addoption('--{name}')\n")
    result = pytester.runpytest_inprocess("--model=mine", "--text=other.txt")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"no {name} is named: pass --quant-{name} or set quant_{name} in pytest's *"])


@pytest.mark.parametrize("option", ["--model=", "--text=", "--quant-device="])
def test_an_empty_value_is_refused(pytester: pytest.Pytester, option: str) -> None:
    """A variable of a script that is not set is no wish for the embedded model, which a budget would hold."""
    pytester.makepyfile("def test_it(accuracy_gate):\n    accuracy_gate('nf4', max_kl=0.02)\n")
    result = pytester.runpytest_inprocess(option)
    assert result.ret is pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*is empty, was a variable not set? Give it a value or leave it out"])


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


def test_settings_are_found_beside_the_configuration(
    pytester: pytest.Pytester, model_folder: Path, text_file: Path
) -> None:
    """Wherever pytest is started."""
    shutil.copytree(model_folder, pytester.path / "mine")
    shutil.copy(text_file, pytester.path / "text.txt")
    pytester.makeini("[pytest]\nquant_model = mine\nquant_text = text.txt\nquant_schemes = nf4\n")
    folder = pytester.mkdir("inside")
    folder.joinpath("test_model.py").write_text(GATED, encoding="utf-8")
    os.chdir(folder)
    pytester.runpytest_inprocess("--update-thresholds", "-c", "../tox.ini", "--rootdir", "..").assert_outcomes(
        skipped=1
    )
    assert (pytester.path / "thresholds.json").exists()


def test_a_folder_called_reference_is_not_the_embedded_model(pytester: pytest.Pytester) -> None:
    pytester.mkdir("reference")
    pytester.makeini("[pytest]\nquant_model = reference\n")
    pytester.makepyfile("def test_it(gated_model):\n    assert gated_model.name == 'reference'\n")
    pytester.runpytest_inprocess().assert_outcomes(passed=1)


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
