"""Budgets in a project's tests, and what may not be held to one."""

import pytest

from quant.evaluate.divergence import Baseline


def test_a_budget_is_judged_while_recording(project: pytest.Pytester) -> None:
    project.makepyfile(test_model="def test_it(accuracy_gate):\n    accuracy_gate('int4', max_kl=1.0)\n")
    project.runpytest_inprocess("--update-thresholds").assert_outcomes(passed=1)


def test_a_budget_needs_no_threshold(project: pytest.Pytester) -> None:
    """INT4 costs the tiny model some 0.03 nats (`tests.measured.VARIANT_KL`), far from all these limits."""
    project.makepyfile(
        test_model="""
        import pytest

        @pytest.mark.parametrize("limits", [{"max_kl": 1.0}, {"max_perplexity_ratio": 1.5}])
        def test_within(accuracy_gate, limits):
            assert len(accuracy_gate("int4", **limits).checks) == 2

        @pytest.mark.parametrize("limits", [{"max_kl": 1e-6}, {"max_perplexity_ratio": 0.91}])
        def test_beyond(accuracy_gate, limits):
            accuracy_gate("int4", **{"max_kl": 1.0, "max_perplexity_ratio": 1.5, **limits})
        """
    )
    result = project.runpytest_inprocess()
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(
        [
            "*layers: 1 Embedding float32, * INT4(*",
            "*perplexity ratio *, at most 1.5: pass",
            "*KL divergence *, at most 1e-06: regression",
        ]
    )
    result.stdout.fnmatch_lines(["*perplexity ratio *, at most 0.91: regression", "*KL divergence *, at most 1: pass"])


@pytest.mark.parametrize("options", [("--update-thresholds",), ()])
@pytest.mark.parametrize("how", ["model", "model.bfloat16()", "dequantize(quantize(model, W8A16()))"])
def test_a_model_that_is_not_quantized_is_refused(project: pytest.Pytester, options: tuple[str, ...], how: str) -> None:
    """It is within every budget, and can be held to itself."""
    limits = "" if options else ", max_kl=0.02"
    project.makepyfile(
        test_model=f"""
        from quant import W8A16, dequantize, quantize
        from quant.integrations.transformers import load_model

        def test_it(gated_model, accuracy_gate):
            model = load_model(gated_model.source.folder, gated_model.source.dtype)
            accuracy_gate("forgotten", model={how}{limits})
        """
    )
    result = project.runpytest_inprocess(*options)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["forgotten: no layer of this model is quantized: pass one that is"])
    assert not (project.path / "thresholds.json").exists()


@pytest.mark.parametrize("limits", ["max_kl=0.0", "max_perplexity_ratio=-1.0"])
def test_a_budget_that_is_none_is_told_before_anything_is_measured(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, limits: str
) -> None:
    project.makepyfile(test_model=f"def test_it(accuracy_gate):\n    accuracy_gate('nf4', {limits})\n")
    monkeypatch.setattr(Baseline, "__init__", lambda *arguments: pytest.fail("measured"))
    result = project.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*is not a limit: pass a positive number*"])
