"""What is measured in which order, in which processes, and what becomes of results and failures."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from quant import native
from quant.checkpoint_quantization import quantize_checkpoint
from tests.full_size import measure, quantizing
from tests.full_size.child import environment
from tests.full_size.conftest import SIZES
from tests.full_size.measure import Record, Run, chosen, tasks
from tests.full_size.system import ROOT
from tests.full_size.variants import PARTS, VARIANTS, Task

TAKEN = {"model": {"name": "tiny"}, "environment": {"cpu": "this", "date": "2026-01-01"}}


def test_the_process_that_starts_the_others_has_no_torch() -> None:
    """Its memory would count as that of the commands it measures."""
    program = "import sys, tests.full_size.measure; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_everything_is_chosen_by_default_and_parts_and_variants_by_name() -> None:
    assert chosen([]) == PARTS
    assert chosen(["compile:nf4", "quantize", "compile:bf16"]) == {
        "quantize": PARTS["quantize"],
        "compile": ("nf4", "bf16"),
    }


@pytest.mark.parametrize("item", ["speed", "compile:float32"])
def test_unknown_parts_and_variants_are_refused(item: str) -> None:
    with pytest.raises(SystemExit, match=f"--only {item}"):
        chosen([item])


def test_rounds_interleave_the_variants_and_bitsandbytes_loads_once() -> None:
    found = list(tasks("generate", ("bf16", "nf4", "bnb-nf4"), Path("in"), Path("work"), SIZES))
    assert [(task.variant, task.repeats) for task in found] == [
        ("bf16", 1), ("nf4", 1), ("bnb-nf4", 2), ("bf16", 1), ("nf4", 1),
    ]  # fmt: skip
    assert [task.quantized for task in found[:3]] == [None, "work/nf4", None]
    assert {task.folder for task in found} == {"in"}


def test_other_parts_run_in_one_process_per_variant() -> None:
    found = list(tasks("outside", ("bf16", "w8a16"), Path("in"), None, SIZES))
    assert [(task.variant, task.repeats, task.quantized) for task in found] == [("bf16", 2, None), ("w8a16", 2, None)]


def test_variants_with_float32_activations_share_a_folder() -> None:
    (task,) = tasks("outside", ("nf4-fp32",), Path("in"), Path("work"), SIZES)
    assert task.quantized == "work/nf4"
    assert VARIANTS["nf4-fp32"].dtype == "float32"


def test_a_task_survives_the_command_line() -> None:
    task = Task("generate", "nf4", "in", None, 3, SIZES)
    assert Task.from_json(task.to_json()) == task


def test_results_are_added_to_a_file_and_replace_older_ones(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    Record(path, TAKEN).add("generate", "nf4", [1])
    record = Record(path, {**TAKEN, "environment": {"cpu": "this", "date": "2026-02-02"}})
    record.add("generate", "bf16", [2])
    record.add("generate", "nf4", [3])
    assert json.loads(path.read_text()) == {**TAKEN, "generate": {"nf4": [3], "bf16": [2]}}
    assert list(tmp_path.iterdir()) == [path]


def test_results_of_another_machine_are_not_mixed_in(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    Record(path, TAKEN).add("generate", "nf4", [1])
    with pytest.raises(SystemExit, match="another environment"):
        Record(path, {**TAKEN, "environment": {"cpu": "other", "date": "2026-01-01"}})


def test_a_failure_is_told_and_the_rest_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(argument: str) -> Any:
        variant = Task.from_json(argument).variant
        if variant == "bf16":
            raise subprocess.CalledProcessError(-9, "child")
        return variant

    def fail(folder: Path, out: Path, scheme: str) -> Any:
        raise subprocess.CalledProcessError(2, "quant")

    monkeypatch.setattr(measure, "ask_child", answer)
    monkeypatch.setattr(measure, "measure_quantizing", fail)
    record = Record(tmp_path / "out.json", TAKEN)
    run = Run(Path("in"), Path("work"), record, SIZES)
    run.quantize(["w8a16"])
    run.models("generate", ("float32", "bf16", "nf4"), in_memory=True)
    assert run.failed == ["quantize:w8a16", "generate:bf16", "generate:bf16"]
    assert record.content["generate"] == {"float32": ["float32"] * 2, "nf4": ["nf4"] * 2}
    assert "quantize" not in record.content


def in_this_process(command: Sequence[str], stdout: int) -> tuple[float, int]:
    """`quantizing.run` without a process, of `quant quantize`; other commands are not run."""
    if "quantize" in command:
        model, out, _option, scheme = command[command.index("quantize") + 1 :]
        quantize_checkpoint(model, Path(out), scheme)
    return 1.0, 1


SMALL = ["--prompt", "5", "--long-prompt", "9", "--new-tokens", "4", "--rounds", "1", "--threads", "1"]


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["measure", *map(str, arguments), *SMALL])
    measure.main()


def test_a_model_is_quantized_on_disk_and_measured_in_a_process_of_its_own(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way, but that the environment is told and the command is run by this process, which has imported what
    they need, and that it is not compared with imports.
    """
    ask = measure.ask_child
    monkeypatch.setattr(measure, "ask_child", lambda text: environment(1) if text == "1" else ask(text))
    monkeypatch.setattr(quantizing, "BARE", {"interpreter": quantizing.PEAK})
    monkeypatch.setattr(quantizing, "run", in_this_process)
    out, work = tmp_path / "out.json", tmp_path / "work"
    run_main(monkeypatch, checkpoint, out, "--work", work, "--only", "quantize:w8a16", "generate:w8a16")
    content = json.loads(out.read_text())
    assert content["environment"]["threads"] == content["sizes"]["threads"] == 1
    assert content["environment"]["kernels"] == native.variant()
    assert content["model"]["bytes"] == (checkpoint / "model.safetensors").stat().st_size
    written = (work / "w8a16" / "model.safetensors").stat().st_size
    assert content["quantize"]["w8a16"]["bytes_out"] == written < content["model"]["bytes"]
    ((result,),) = content["generate"].values()
    assert [len(repeat) for repeat in result["decode_seconds"]] == [3]
    assert {length: len(seconds) for length, seconds in result["prefill_seconds"].items()} == {"5": 1, "9": 1}
    assert result["loading"]["calculated_bytes"] == result["loading"]["footprint_bytes"]
    assert result["memory_at_end"]["peak"] >= result["loading"]["memory"]["peak"]


def test_in_memory_nothing_is_quantized_on_disk(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(measure, "ask_child", lambda text: environment(1) if text == "1" else asked.append(text))
    monkeypatch.setattr(measure, "measure_quantizing", lambda *_: pytest.fail("quantized"))
    run_main(monkeypatch, checkpoint, tmp_path / "out.json", "--in-memory", "--only", "quantize", "generate:nf4")
    assert [Task.from_json(text).quantized for text in asked] == [None]


def test_a_failure_is_the_exit_s_message(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(text: str) -> Any:
        if text == "1":
            return environment(1)
        raise subprocess.CalledProcessError(1, "child")

    monkeypatch.setattr(measure, "ask_child", answer)
    with pytest.raises(SystemExit, match="failed: outside:bf16; repeat with --only"):
        run_main(monkeypatch, checkpoint, tmp_path / "out.json", "--only", "outside:bf16")


def test_a_folder_without_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["measure", str(tmp_path), str(tmp_path / "out.json")])
    with pytest.raises(SystemExit, match="has no safetensors"):
        measure.main()
