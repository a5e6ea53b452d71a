"""Where runs are stored, as users name it."""

import pytest

from tests.benchmarks.gating.machine import folder_name
from tests.unit.benchmarks.project import COMPARE, SPEEDS, Project
from tests.unit.benchmarks.runs import KEY


@pytest.mark.parametrize("saved", ["runs", "file://runs", "{}/runs", "file://{}/runs"])
@pytest.mark.parametrize("compared", ["runs", "file://runs", "{}/runs", "file://{}/runs"])
def test_a_path_is_the_same_storage_with_and_without_a_scheme(saved: str, compared: str, project: Project) -> None:
    root = str(project.folder)
    storage = f"--benchmark-storage={saved.format(root)}"
    code, printed = project.pytest("--benchmark-only", "--benchmark-autosave", storage)
    assert code == 0, printed
    (file,) = project.folder.glob("runs/**/*.json")
    assert file.parts[-3] == folder_name(KEY)
    storage = f"--benchmark-storage={compared.format(root)}"
    code, printed = project.pytest(*COMPARE, storage)
    assert code == 0, printed
    assert project.pytest(*COMPARE, storage, speeds={**SPEEDS, "a": 1.2})[0] == 1
    assert project.pytest(*COMPARE, storage, threads=4)[0] == pytest.ExitCode.USAGE_ERROR


def test_the_latest_run_of_another_kind_of_storage_is_not_known(project: Project) -> None:
    code, printed = project.pytest(*COMPARE, "--benchmark-storage=elasticsearch+http://localhost/index")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "is found in file storage only: name a run" in printed
