"""The plugin as another repository uses it: its two lines, and all that must not be green."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from quant import gate_reports
from quant.evaluate.divergence import Baseline
from quant.evaluate.gates import Check, GateResult, Verdict
from quant.gated_model import GatedModel
from tests.unit.pytest_plugin.projects import GATED

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(("limit", "warned"), [(0.0, True), (1.0, False)])
def test_a_pass_tells_its_figures_and_poor_power(
    recorded: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, limit: float, warned: bool
) -> None:
    monkeypatch.setattr(gate_reports, "POOR_POWER", limit)
    result = recorded.runpytest_inprocess("--schemes", "nf4", "-rP", "-W", "always")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*accuracy gate*", "nf4: pass", "*perplexity ratio*: pass", "  of tiny*; * text, *", "a worsening of *"]
    )
    warning = "*test_model.py:2: PoorPowerWarning: nf4: of * tokens, only *: hold it to more text*"
    (result.stdout.fnmatch_lines if warned else result.stdout.no_fnmatch_line)(warning)


def test_what_is_inconclusive_fails(recorded: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    check = Check("KL divergence", Verdict.INCONCLUSIVE, "KL divergence too uncertain: inconclusive")
    monkeypatch.setattr(GatedModel, "judge", lambda self, scheme, model: GateResult(scheme, (check,)))
    result = recorded.runpytest_inprocess("--schemes", "nf4")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*nf4: inconclusive*", "*KL divergence too uncertain: inconclusive"])


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
    result = project.runpytest_inprocess("--schemes", "nf4")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*layers in other formats than recorded: *"])


@pytest.mark.parametrize("options", [("--update-thresholds",), ()])
def test_a_model_on_another_kind_of_device_is_refused(recorded: pytest.Pytester, options: tuple[str, ...]) -> None:
    recorded.makepyfile(
        test_model="""
        from quant.integrations.transformers import load_model

        def test_it(gated_model, accuracy_gate):
            source = gated_model.source
            accuracy_gate("nf4", model=load_model(source.folder, source.dtype).to("meta"))
        """
    )
    result = recorded.runpytest_inprocess(*options)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["nf4: the model is on meta, and its baseline is measured on cpu: pass --device, or move the model"]
    )


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


def test_the_name_of_a_model_is_no_model(project: pytest.Pytester) -> None:
    project.makepyfile(test_model="def test_it(accuracy_gate):\n    accuracy_gate('nf4', model='mine', max_kl=1.0)\n")
    result = project.runpytest_inprocess()
    result.stdout.fnmatch_lines(["nf4: the model is a str, pass a loaded one"])


def test_another_text_is_told_by_its_name_before_anything_is_measured(
    recorded: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, text_file: Path
) -> None:
    monkeypatch.setattr(Baseline, "__init__", lambda *arguments: pytest.fail("measured"))
    recorded.path.joinpath("other.txt").write_text(text_file.read_text(encoding="utf-8")[:-50], encoding="utf-8")
    result = recorded.runpytest_inprocess("--text=other.txt", "--schemes=nf4")
    result.stdout.fnmatch_lines(
        [f"nf4 was recorded on {text_file.name}, * tokens, and this is other.txt, *: measure on*"]
    )


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
