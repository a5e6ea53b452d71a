"""actionlint and zizmor turn red on the mistakes they are run for: a rule that was switched off, a linter that does not
find shellcheck or a file that is not read would pass everything in silence.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

GITHUB = Path(__file__).parents[2] / ".github"
TOOLS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
COMMANDS = {"actionlint": ["actionlint", "-no-color"], "zizmor": ["zizmor", "--offline", "--no-progress", ".github"]}
MISSING = [name for name in (*COMMANDS, "shellcheck") if shutil.which(name, path=TOOLS) is None]
RUN = r"- run: quant compare.*"
TITLE = '- run: echo "${{ github.event.pull_request.title }}"'

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed (extra `lint`): {', '.join(MISSING)}")


def lint(tool: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run as everywhere, in a `folder` that is taken for a repository."""
    (folder / ".git").mkdir()
    environment = os.environ | {"PATH": TOOLS, "NO_COLOR": "1"}
    return subprocess.run(COMMANDS[tool], cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("tool", COMMANDS)
def test_the_workflows_are_clean(tool: str, tmp_path: Path) -> None:
    shutil.copytree(GITHUB, tmp_path / ".github")
    result = lint(tool, tmp_path)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("tool", "right", "wrong", "rule"),
    [
        ("zizmor", r"(actions/checkout)@\w+ # v[\d.]+", r"\1@v6", "unpinned-uses"),
        ("zizmor", RUN, TITLE, "template-injection"),
        ("zizmor", r"permissions: \{ contents: read \}", "permissions: write-all", "excessive-permissions"),
        ("zizmor", r"^  pull_request:", "  pull_request_target:", "dangerous-triggers"),
        ("zizmor", r"with: \{ persist-credentials: false \}", "with: { fetch-depth: 0 }", "artipacked"),
        ("actionlint", RUN, TITLE, "potentially untrusted"),
        ("actionlint", RUN, "- run: cat $FILE", "SC2086"),
        ("actionlint", r"runs-on: ubuntu-latest", "runs-on: [self-hosted, tpu]", "runner-label"),
        ("actionlint", r"matrix\.python\b", "matrix.pythons", "is not defined in object type"),
        ("actionlint", r"timeout-minutes", "timeout", "unexpected key"),
    ],
)
def test_a_mistake_is_found(tool: str, right: str, wrong: str, rule: str, tmp_path: Path) -> None:
    shutil.copytree(GITHUB, tmp_path / ".github")
    file = tmp_path / ".github" / "workflows" / "cpu.yml"
    planted, count = re.subn(right, wrong, file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert count
    file.write_text(planted, encoding="utf-8")
    result = lint(tool, tmp_path)
    assert result.returncode > 0
    assert rule in result.stdout
