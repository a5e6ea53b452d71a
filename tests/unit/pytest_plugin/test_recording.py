"""`--update-thresholds`: what it writes, what it tells, and what it refuses before anything is written."""

import dataclasses
import json
from pathlib import Path

import pytest

from quant.evaluate.divergence import Baseline
from quant.evaluate.thresholds import Threshold, ThresholdFile
from quant.gate_reports import recorded_lines
from tests.unit.pytest_plugin.projects import entries

NOISE = {"noise": 2.8e-6, "baseline_noise": 1.06e-7}
"""Nats, root mean square over the windows of the tiny model, measured on a CPU with AVX-512 and AMX. Integer layers
round their activations anew, so that noise moves them further.
"""


def test_recording_then_holding(project: pytest.Pytester) -> None:
    project.runpytest_inprocess("--update-thresholds").assert_outcomes(skipped=2)
    assert list(entries(project)) == ["w8a16", "nf4"]
    before = (project.path / "thresholds.json").read_bytes()
    result = project.runpytest_inprocess("-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_accuracy?w8a16?*", "*test_accuracy?nf4?*"])
    assert (project.path / "thresholds.json").read_bytes() == before


def test_the_recording_says_that_nothing_was_judged(project: pytest.Pytester) -> None:
    result = project.runpytest_inprocess("--update-thresholds", "--schemes", "nf4", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*threshold of nf4 was written to *thresholds.json, and nothing was held to it*"])
    provenance = entries(project)["nf4"]["provenance"]
    assert isinstance(provenance, dict)
    assert provenance["command"].startswith("pytest")
    assert {"tokens_sha256", "scored_tokens", "window", "versions", "noise_seed", "cpu"} <= set(provenance)


def test_updating_one_scheme_leaves_the_other(recorded: pytest.Pytester) -> None:
    before = entries(recorded)
    recorded.runpytest_inprocess("--update-thresholds", "--schemes", "nf4").assert_outcomes(skipped=1)
    assert entries(recorded)["w8a16"] == before["w8a16"]


def test_recording_tells_what_it_changed(recorded: pytest.Pytester, model_folder: Path) -> None:
    file = ThresholdFile(recorded.path / "thresholds.json")
    schemes = ("w8a16", "nf4", "int4")
    old = [dataclasses.replace(file.read(model_folder.name, "w8a16"), perplexity_ratio=1.5, kl=0.25)]
    file.path.unlink()
    file.write(model_folder.name, "w8a16", *old)
    content = json.loads(file.path.read_text(encoding="utf-8"))
    content["thresholds"][model_folder.name]["int4"] = {}
    file.path.write_text(json.dumps(content), encoding="utf-8")
    result = recorded.runpytest_inprocess("--update-thresholds", f"--schemes={','.join(schemes)}")
    before: tuple[Threshold | str, ...] = (*old, "new", "new, in the place of one that was damaged")
    expected = [
        line
        for scheme, then in zip(schemes, before, strict=True)
        for line in recorded_lines(scheme, then, file.read(model_folder.name, scheme))
    ]
    assert result.outlines[-len(expected) - 1 : -1] == expected
    result.stdout.fnmatch_lines(["*thresholds recorded*", f"of {model_folder.name} in float32 on cpu; * text, *"])


def test_recording_needs_no_terminal(project: pytest.Pytester) -> None:
    result = project.runpytest_inprocess("--update-thresholds", "--schemes", "nf4", "-p", "no:terminal")
    assert result.ret is pytest.ExitCode.OK
    assert list(entries(project)) == ["nf4"]


def test_a_name_is_recorded_for_one_model_in_a_run(project: pytest.Pytester) -> None:
    """That of this library is the same in every test, one that a test brings may be any."""
    project.makepyfile(
        test_model="""
        import pytest

        import quant
        from quant.integrations.transformers import load_model

        @pytest.mark.parametrize("own", [True, True, False])
        def test_it(gated_model, accuracy_gate, own):
            source = gated_model.source
            if own:
                accuracy_gate("nf4")
            else:
                accuracy_gate("nf4", model=quant.quantize(load_model(source.folder, source.dtype), quant.NF4()))
        """
    )
    result = project.runpytest_inprocess("--update-thresholds")
    result.assert_outcomes(skipped=2, failed=1)
    result.stdout.fnmatch_lines(["the threshold of nf4 was written by another test of this run, which stays:*"])
    assert list(entries(project)) == ["nf4"]


def test_a_test_of_several_gates_records_all_and_goes_on(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_model="""
        def test_it(accuracy_gate):
            for scheme in ("w8a16", "nf4"):
                assert str(accuracy_gate(scheme)).startswith(f"{scheme}: pass")
            accuracy_gate("nf4", max_kl=1e-6)
        """
    )
    result = project.runpytest_inprocess("--update-thresholds")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*KL divergence *, at most 1e-06: regression"])
    assert list(entries(project)) == ["w8a16", "nf4"]


def test_what_rounding_does_is_measured(project: pytest.Pytester) -> None:
    """Of both models. Without noise the digits that are stored would move them, by less than 5e-9 nats."""
    project.runpytest_inprocess("--update-thresholds", "--schemes=nf4")
    change = entries(project)["nf4"]["change"]
    assert isinstance(change, dict)
    for name, measured in NOISE.items():
        assert measured / 3 < change[name] < 3 * measured


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "./no-such-folder"], "*no-such-folder*"),
        (["--text", "no-such.txt"], "*no-such.txt cannot be read*"),
        (["--device", "nowhere"], "*nowhere*"),
        (["--schemes", "baseline"], "*baseline is what schemes are held against*"),
        (["--thresholds", "missing/thresholds.json"], "*there is no folder missing, make it first"),
    ],
)
def test_what_is_not_there_is_told_while_recording(
    project: pytest.Pytester, arguments: list[str], message: str
) -> None:
    result = project.runpytest_inprocess("--update-thresholds", *arguments)
    assert result.ret is pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([message])
    assert not (project.path / "thresholds.json").exists()


@pytest.mark.parametrize("processes", [("-n", "2"), ("-d", "--tx=2*popen")])
def test_recording_in_several_processes_is_refused(project: pytest.Pytester, processes: tuple[str, ...]) -> None:
    result = project.runpytest_inprocess("--update-thresholds", *processes)
    assert result.ret is pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--update-thresholds writes one file: run it in one process, with -n 0"])


def test_recording_takes_one_process_where_xdist_chooses(project: pytest.Pytester) -> None:
    """Whatever a conftest.py of the project would choose."""
    project.makeconftest("def pytest_xdist_auto_num_workers(config):\n    return 2\n")
    project.runpytest_inprocess("--update-thresholds", "-n", "auto", "--schemes", "nf4").assert_outcomes(skipped=1)


def test_a_text_that_is_too_short_is_told_before_anything_is_measured(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.path.joinpath("short.txt").write_text("Fellow citizens, " * 30, encoding="utf-8")
    monkeypatch.setattr(Baseline, "__init__", lambda *arguments: pytest.fail("measured"))
    result = project.runpytest_inprocess("--update-thresholds", "--text", "short.txt")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*is too short for a standard error: it takes 20 windows of *, pass a longer one"])
