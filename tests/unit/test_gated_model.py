"""What a gated model is opened with, beside what the pytest plugin's tests hold."""

from pathlib import Path

import torch

from quant.evaluate.thresholds import ThresholdFile
from quant.gated_model import GatedModel


def test_the_dtype_may_be_another_one_than_the_checkpoints(model_folder: Path, text_file: Path, tmp_path: Path) -> None:
    file = ThresholdFile(tmp_path / "none.json")
    model = GatedModel(str(model_folder), text_file, "cpu", file, dtype="bfloat16")
    assert GatedModel(str(model_folder), text_file, "cpu", file).source.dtype == torch.float32
    assert model.source.dtype == torch.bfloat16
    assert model.baseline.measurement.fingerprint.dtype == "bfloat16"
    assert str(model).startswith(f"{model_folder.name} in bfloat16 on cpu")


def test_the_baseline_keeps_its_logits_where_they_fit(model_folder: Path, text_file: Path, tmp_path: Path) -> None:
    file = ThresholdFile(tmp_path / "none.json")
    kept = GatedModel(str(model_folder), text_file, "cpu", file)
    again = GatedModel(str(model_folder), text_file, "cpu", file, limit_bytes=0)
    assert (kept.baseline.keeps_model, again.baseline.keeps_model) == (False, True)


def test_thresholds_are_filed_under_the_folder_or_the_given_name(
    model_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    file = ThresholdFile(tmp_path / "thresholds.json")
    assert GatedModel(str(model_folder), text_file, "cpu", file).name == model_folder.name
    GatedModel(str(model_folder), text_file, "cpu", file, name="family").record("nf4", "by hand")
    assert (file.has("family", "nf4"), file.has(model_folder.name, "nf4")) == (True, False)
