"""What runs by itself is what the documents say: the CI script, the nightly matrix, and the pins."""

import configparser
import itertools
import re
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
REHEARSAL = "pytest -m gpu --device cpu --model reference"
RCFILE = "--rcfile=tests/gpu/coveragerc"
TOOLS = ("mypy", "pre-commit", "pytest", "ruff", "setuptools", "tox")
CHECKS = {
    *("ruff check .", "ruff format --check .", "mypy", "lint-imports", "actionlint", "zizmor --offline .github"),
    "mkdocs build --strict",
}


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def test_the_ci_script_runs_the_readme_s_two_commands_word_for_word() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", read("README.md"), re.DOTALL)
    documented = [block for block in blocks if block.startswith("python3 -m venv .venv && .venv/bin/pip")]
    run = re.findall(r"^bash <<'README'\n(.*?)^README\n", read(".ci/run"), re.DOTALL | re.MULTILINE)
    assert len(documented) == 2
    assert run == documented


def test_what_the_readme_s_command_leaves_out_runs_in_ci_too() -> None:
    """Benchmarks, once and untimed; the limits on coverage and on slow tests, which are pytest's options on the
    README's own command; the limit on branches alone; the tests of the linters; and the rehearsal of the suite on a
    GPU, with its own limit on coverage.
    """
    script = [line for line in read(".ci/run").splitlines() if "pytest" in line.lower()]
    assert [line.rpartition("&& ")[2] for line in script] == [
        "export PYTEST_ADDOPTS='--cov --slow-tests=fail'",
        '.venv/bin/python -m pytest -m "not gpu"',
        "unset PYTEST_ADDOPTS",
        ".venv/bin/python -m pytest tests/benchmarks",
        f".venv/bin/python -m coverage run {RCFILE} -m {REHEARSAL}",
        "python -m pytest tests/contract/test_linters.py",
    ]
    lines = read(".ci/run").splitlines()
    assert lines[lines.index("unset PYTEST_ADDOPTS") + 1] == ".venv/bin/python -m tests.branch_coverage"
    assert f".venv/bin/python -m coverage report {RCFILE}" in lines
    assert f"python -m {REHEARSAL}\n" in read("README.md")
    assert re.search(r"^fail_under = 100$", read("tests/gpu/coveragerc"), re.MULTILINE)
    steps = yaml.safe_load(read(".github/workflows/cpu.yml"))["jobs"]["test"]["steps"]
    suite, benchmarks, rehearsal = (step for step in steps if "-m pytest" in step.get("run", ""))
    assert suite["run"] == 'python -m pytest -m "not gpu"'
    assert "'--cov --slow-tests=fail'" in suite["env"]["PYTEST_ADDOPTS"]
    assert suite["env"]["QUANT_TEST_BROWSER"] == "1"
    assert 'REQUIRED = "QUANT_TEST_BROWSER"' in read("tests/unit/report/test_browser.py")
    branches = {"run": "python -m tests.branch_coverage", "if": "matrix.python == '3.11'"}
    assert steps[steps.index(suite) + 1] == branches
    assert benchmarks == {"run": "python -m pytest tests/benchmarks"}
    assert rehearsal == {"run": f"python -m coverage run {RCFILE} -m {REHEARSAL}"}
    assert steps[steps.index(rehearsal) + 1] == {"run": f"python -m coverage report {RCFILE}"}
    assert "tests/benchmarks" in read("pytest.ini").split("norecursedirs = ")[1].split()


def test_branches_are_measured_and_have_a_limit() -> None:
    settings = read("pyproject.toml").partition("[tool.coverage.run]")[2]
    assert re.search(r"^branch = true$", settings, re.MULTILINE)
    assert re.search(r"^fail_under = 95$", settings, re.MULTILINE)


def expand(names: str) -> set[str]:
    """tox's environments: py{310,311}-torch213, lint -> py310-torch213, py311-torch213, lint."""
    expanded = set()
    for name in re.findall(r"(?:\{[^}]*\}|[^,\s{])+", names):
        parts = [part.split(",") for part in re.split(r"[{}]", name)]
        expanded |= {"".join(choice) for choice in itertools.product(*parts)}
    return expanded


def test_names_are_expanded_as_tox_does() -> None:
    assert expand("a{1,2}-b{3,4}, lint,c{5}") == {"a1-b3", "a1-b4", "a2-b3", "a2-b4", "lint", "c5"}


def tox_ini() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(read("tox.ini"))
    return parser


def nightly_matrix() -> list[str]:
    workflow = yaml.safe_load(read(".github/workflows/nightly.yml"))
    names: list[str] = workflow["jobs"]["tox"]["strategy"]["matrix"]["environment"]
    return names


def factor_pins() -> list[tuple[str, Requirement]]:
    """(factor, what an environment with this factor installs) of tox.ini."""
    lines = tox_ini()["testenv"]["deps"].strip().splitlines()
    pins = [line.partition(":")[::2] for line in lines if not line.startswith("#")]
    return [(factor, Requirement(pin)) for names, pin in pins for factor in sorted(expand(names))]


def test_tox_runs_the_kernels_and_not_what_stands_in_for_them() -> None:
    """`python -m pytest` imports the package from the checkout. Without kernels choosing some is a warning."""
    settings = tox_ini()["testenv"]
    assert settings["package"] == "editable"
    first = settings["commands"].strip().splitlines()[0]
    assert first == 'python -W error -c "from quant import native; native.variant()"'


def test_the_nightly_matrix_is_tox_s_list_of_environments() -> None:
    matrix = nightly_matrix()
    assert len(matrix) == len(set(matrix))
    assert set(matrix) == expand(tox_ini()["tox"]["env_list"])


def test_every_factor_of_an_environment_does_something() -> None:
    """tox takes a name that is misspelt for an environment without versions, and runs it."""
    configured = {section.partition(":")[2] for section in tox_ini().sections()}
    factors = {factor for name in nightly_matrix() if name not in configured for factor in name.split("-")}
    versions = {factor for factor in factors if not re.fullmatch(r"py3\d+", factor)} - {"newest"}
    assert versions == {factor for factor, _ in factor_pins()}


@pytest.mark.parametrize("package", ["torch", "transformers", "bitsandbytes"])
def test_the_oldest_version_that_is_allowed_is_run(package: str) -> None:
    """And what a factor does not name is the version of constraints.txt, beside transformers and bitsandbytes."""
    line = re.search(rf'"{package}>=([\d.]+)', read("pyproject.toml"))
    pinned = re.search(rf"^{package}==(\S+)", read("constraints.txt"), re.MULTILINE)
    assert line
    assert pinned
    own: set[str] = set()
    beside: set[str] = set()
    for factor, requirement in factor_pins():
        if requirement.name == package:
            version = str(requirement.specifier).removeprefix("==")
            (own if factor.startswith(package) else beside).add(version)
    assert min(Version(version.removesuffix(".*")) for version in own) == Version(line[1])
    assert beside == {pinned[1]}


def test_the_static_checks_are_the_same_everywhere() -> None:
    """In the CI script, tox, the workflow of pull requests and CONTRIBUTING.md."""
    steps = yaml.safe_load(read(".github/workflows/cpu.yml"))["jobs"]["static"]["steps"]
    script = read(".ci/run").splitlines()
    tox = tox_ini()
    places = {
        "workflow": [command for step in steps for command in step.get("run", "").split(" && ")],
        "script": script,
        "tox": [line for name in ("lint", "types", "docs") for line in tox[f"testenv:{name}"]["commands"].splitlines()],
        "CONTRIBUTING": [part for line in read("CONTRIBUTING.md").splitlines() for part in line.split(" && ")],
    }
    missing = {place: CHECKS - set(commands) for place, commands in places.items()}
    assert not any(missing.values()), missing


def test_the_suite_is_tested_every_night_by_commands_that_exist() -> None:
    job = yaml.safe_load(read(".github/workflows/nightly.yml"))["jobs"]["mutation"]
    commands = job["strategy"]["matrix"]["command"]
    modules = [command.split()[2] for command in commands]
    assert [command.split()[:2] for command in commands] == [["python", "-m"]] * 3
    assert modules == ["tests.mutation.planted", "tests.mutation.run", "pytest"]
    assert commands[2].endswith(" pytest tests/flakes tests/mutation")
    documented = read("docs/testing-the-suite.md")
    for module in (*modules[:2], "tests.flakes.hunt"):
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()
        assert f"python -m {module}" in documented


def test_what_mutmut_reads_of_pyproject_is_there() -> None:
    """A pattern or file that matches nothing would be left out in silence."""
    table = re.search(r"^\[tool\.mutmut\]\n(.*?)^\[", read("pyproject.toml"), re.DOTALL | re.MULTILINE)
    assert table
    paths = re.findall(r'"((?:quant|tests)/[^"]+)"', table[1])
    assert len(paths) > 20
    for path in paths:
        assert list(ROOT.glob(path)), path


def test_every_dependency_and_tool_is_pinned() -> None:
    pinned = {canonicalize_name(name) for name in re.findall(r"^([\w.-]+)==", read("constraints.txt"), re.MULTILINE)}
    declared = {canonicalize_name(Requirement(line).name) for line in requires("quant") or ()} - {"quant"}
    assert len(declared) > 15
    assert declared - pinned == set()
    assert set(TOOLS) - pinned == set()
