"""What the projects of these tests have and write."""

import json

import pytest

GATED = "def test_accuracy(quant_scheme, accuracy_gate):\n    accuracy_gate(quant_scheme)\n"


def entries(project: pytest.Pytester) -> dict[str, dict[str, object]]:
    content = json.loads((project.path / "thresholds.json").read_text(encoding="utf-8"))
    (model,) = content["thresholds"].values()
    result: dict[str, dict[str, object]] = model
    return result
