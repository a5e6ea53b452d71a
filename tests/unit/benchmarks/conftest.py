"""The project in which the gate is met as users meet it."""

import pytest

from tests.unit.benchmarks.project import Project


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(pytester, monkeypatch)


@pytest.fixture
def measured(project: Project) -> Project:
    """A project with one stored run."""
    code, printed = project.pytest("--benchmark-only", "--benchmark-autosave")
    assert code == 0, printed
    return project
