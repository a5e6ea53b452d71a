"""Several processes for real, over gloo on the CPU: a comparison under `accelerate launch` says as much as one process,
to the last bit, and bad input ends all of them with one line.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from quant.evaluate.processes import ALONE
from tests.unit.cli_runner import Outcome, Run
from tests.unit.evaluate.sharing import CASES, measured
from tests.unit.hasty import CLOCK

pytestmark = pytest.mark.usefixtures("single_threaded")

ACCELERATE = (
    *("accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--mixed_precision", "no"),
    *("--dynamo_backend", "no", "--main_process_port", "0", "--num_processes"),
)
"""--multi_gpu is its name for several processes; no GPU is looked for. Port 0 is any that is free."""
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node")
EMBEDDED = ("--schemes", "nf4", "--window", 32, "--max-tokens", 800, "--batch-size", 4, "--new-tokens", 2)
"""25 windows of the embedded text, enough for intervals, in seven batches."""
MEASURED_ANEW = ("seconds", "tokens_per_second", "times_faster", "memory")
"""Parts of the names of what is never the same twice."""


def launch(launcher: tuple[str, ...], processes: int, *arguments: object, home: Path) -> Outcome:
    """What comes of `python -m LAUNCHER ... -m ARGUMENTS` with one thread a process, without a user's configuration."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HOME": str(home)}
    command = [sys.executable, "-m", *launcher, str(processes), "-m", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr)


def figures(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Of each scheme, what is the same on every run; floats as JSON has them, which is all their bits."""
    return [
        {name: value for name, value in result.items() if not any(part in name for part in MEASURED_ANEW)}
        for result in record["results"]
    ]


@pytest.mark.slow  # three processes that load transformers
def test_two_processes_write_the_report_of_one(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = (tmp_path / "single.json", tmp_path / "launched.json")
    monkeypatch.setattr("quant.evaluate.generation.time", CLOCK)
    assert run("compare", *EMBEDDED, "--json", files[0]).code == 0
    outcome = launch(ACCELERATE, 2, "tests.unit.hasty", "compare", *EMBEDDED, "--json", files[1], home=tmp_path)
    assert outcome.code == 0, outcome.err
    single, launched = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    assert figures(launched) == figures(single)
    for result in launched["results"][1:]:
        assert result["perplexity_ratio_ci"][0] < result["perplexity_ratio"] < result["perplexity_ratio_ci"][1]
        assert result["kl_mean_ci"][0] < result["kl_mean"] < result["kl_mean_ci"][1]
    assert launched["environment"] == {**single["environment"], "processes": 2}
    assert single["environment"]["processes"] == 1
    # The main process alone prints, and times.
    assert outcome.out.count("Accuracy against the baseline") == 1
    assert "device cpu, 2 processes; " in outcome.out
    assert all(result["tokens_per_second"] > 0 for result in launched["results"])


def test_bad_input_is_one_line_and_leaves_no_file(tmp_path: Path) -> None:
    options = ("--device", "auto", "--json", tmp_path / "out.json")
    outcome = launch(TORCHRUN, 2, "quant", "compare", *options, home=tmp_path)
    assert outcome.code != 0
    assert outcome.out == ""
    said = [line for line in outcome.err.splitlines() if line.startswith("quant: ")]
    assert said == [
        "quant: --device auto is for one process, and there are 2: start one process, without accelerate launch"
    ]
    assert not (tmp_path / "out.json").exists()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What three processes print, one line each for each of `CASES`."""
    outcome = launch(TORCHRUN, 3, "tests.unit.evaluate.sharing", home=tmp_path_factory.mktemp("home"))
    assert outcome.code == 0, outcome.err
    return sorted(outcome.out.splitlines())


@pytest.mark.parametrize("case", ["two batches", "one window"])
def test_three_processes_share_fewer_batches(case: str, shared: list[str]) -> None:
    expected = measured(*CASES[case], ALONE)
    assert [line for line in shared if case in line] == [f"{case}, {rank} of 3: {expected}" for rank in range(3)]


def test_an_error_in_one_of_three_processes_is_told_by_all(shared: list[str]) -> None:
    """NaN in the last window, which one of them measures; they go on together."""
    lines = [line for line in shared if line.startswith("NaN, ")]
    assert [line.partition(": ")[0] for line in lines] == [f"NaN, {rank} of 3" for rank in range(3)]
    assert all("window 3 (from token 24): the model's logits hold NaN" in line for line in lines)
