"""A project of its own in a temporary folder for each test, with the tiny model and a few thousand tokens."""

import shutil
from pathlib import Path

import pytest

from quant.evaluate.thresholds import ThresholdFile
from quant.gated_model import GatedModel
from tests.unit.pytest_plugin.projects import GATED


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
