"""What the workflows are held to beyond what actionlint and zizmor know: which runs what, with which rights, for how
long at most, and that an action is the same commit everywhere.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = ROOT / ".github" / "workflows"
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def read(name: str) -> str:
    return (WORKFLOWS / name).read_text(encoding="utf-8")


def parsed(text: str) -> dict[Any, Any]:
    """Of a workflow; its triggers are under True, as which YAML reads the key `on`."""
    workflow: dict[Any, Any] = yaml.safe_load(text)
    return workflow


def actions(text: str) -> list[str]:
    """All that stands behind `uses:`, with the comment."""
    return [line.strip() for line in re.findall(r"\buses:(.*)", text)]


def problems(text: str) -> list[str]:
    """What is wrong with a workflow."""
    workflow = parsed(text)
    found = [f"{action} is no commit with its version" for action in actions(text) if not PINNED.fullmatch(action)]
    if workflow.get("permissions") != {}:
        found.append("the workflow has rights that each job should ask for")
    if "concurrency" not in workflow:
        found.append("two runs may get into each other's way")
    if "pull_request_target" in workflow[True]:
        found.append("a pull request of anyone's would run with the rights of the repository")
    for name, job in workflow["jobs"].items():
        found += [f"{name}: {problem}" for problem in problems_of_job(job)]
    return found


def problems_of_job(job: dict[str, Any]) -> list[str]:
    found = []
    if job.get("permissions") != {"contents": "read"}:
        found.append("more rights than reading, or none said")
    if not isinstance(job.get("timeout-minutes"), int):
        found.append("no limit on its time")
    for step in job["steps"]:
        if "actions/checkout@" in step.get("uses", "") and step.get("with", {}).get("persist-credentials") is not False:
            found.append("the checkout leaves its token")
        if "${{" in step.get("run", ""):
            found.append("an expression is pasted into a script, where env would pass it")
    return found


@pytest.mark.parametrize("name", sorted(path.name for path in WORKFLOWS.iterdir()))
def test_workflows_are_sound(name: str) -> None:
    assert problems(read(name)) == []


@pytest.mark.parametrize(
    ("right", "wrong", "problem"),
    [
        (r"(actions/checkout)@\w+ # v[\d.]+", r"\1@v6", "actions/checkout@v6 is no commit"),
        (r"(actions/checkout@\w+) # v[\d.]+", r"\1", "is no commit with its version"),
        (r"^permissions: \{\}\n", "", "the workflow has rights"),
        (r"^permissions: \{\}\n", "permissions: write-all\n", "the workflow has rights"),
        (r"permissions: \{ contents: read \}", "permissions: { contents: write }", "test: more rights"),
        (r"^    permissions: \{ contents: read \}\n", "", "test: more rights"),
        (r"^    timeout-minutes: \d+\n", "", "test: no limit"),
        (r"^concurrency:\n(?:  .*\n)*", "", "two runs"),
        (r"^  pull_request:", "  pull_request_target:", "a pull request of anyone's"),
        (r"with: \{ persist-credentials: false \}", "with: { fetch-depth: 0 }", "test: the checkout leaves"),
        (r"- run: quant compare", "- run: echo ${{ github.event.pull_request.title }}", "test: an expression"),
    ],
)
def test_a_mistake_is_found(right: str, wrong: str, problem: str) -> None:
    planted, count = re.subn(right, wrong, read("cpu.yml"), flags=re.MULTILINE)
    assert count
    assert any(problem in each for each in problems(planted)), problems(planted)


def test_an_action_is_the_same_commit_everywhere() -> None:
    pins = {action for path in WORKFLOWS.iterdir() for action in actions(path.read_text(encoding="utf-8"))}
    names = [pin.partition("@")[0] for pin in pins]
    assert len(names) == len(set(names)) == 3


def test_the_gpu_is_never_lent_to_a_pull_request() -> None:
    """Only to what is merged or started by hand, on the runners whose label actionlint is told."""
    workflow = parsed(read("gpu.yml"))
    assert set(workflow[True]) == {"schedule", "workflow_dispatch"}
    labels = yaml.safe_load((ROOT / ".github" / "actionlint.yaml").read_text(encoding="utf-8"))
    (job,) = workflow["jobs"].values()
    assert job["runs-on"] == ["self-hosted", *labels["self-hosted-runner"]["labels"]]
    assert workflow["concurrency"]["cancel-in-progress"] is False


def test_times_on_the_gpu_are_stored_outside_the_checkout_and_compared() -> None:
    (job,) = parsed(read("gpu.yml"))["jobs"].values()
    (command,) = (step["run"] for step in job["steps"] if "pytest" in step.get("run", ""))
    assert command.split()[:6] == [".venv/bin/python", "-m", "pytest", "-m", "gpu", "--device"]
    assert re.search(r'--benchmark-storage "\$HOME/[\w-]+" --benchmark-autosave ', command)
    assert re.search(r" --benchmark-compare --benchmark-compare-fail median:\d+%$", command.strip())
    assert not any(step.get("continue-on-error") for step in job["steps"])


def test_every_night_new_examples_are_drawn() -> None:
    workflow = parsed(read("nightly.yml"))
    assert workflow[True]["schedule"]
    assert workflow["jobs"]["tox"]["env"]["HYPOTHESIS_PROFILE"] == "random"
    tox = (ROOT / "tox.ini").read_text(encoding="utf-8")
    passed = re.search(r"^pass_env = (.*)$", tox, re.MULTILINE)
    assert passed
    assert "HYPOTHESIS_PROFILE" in passed[1].split(", ")
