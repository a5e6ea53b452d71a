"""`quant convert` on the command line: what it prints, and bad input as one line and exit code 2."""

from pathlib import Path

import pytest

from quant.checkpoint.folder import open_checkpoint
from quant.checkpoint.partial import Partial
from tests.unit.cli_runner import Run, check_refused
from tests.unit.folders import interrupt


def test_it_says_what_it_made(run: Run, our_folder: Path, tmp_path: Path) -> None:
    done = run("convert", our_folder, tmp_path / "theirs", "--to", "bitsandbytes")
    size = (tmp_path / "theirs" / "model.safetensors").stat().st_size
    layers = "8 layers of NF4(block_size=64, double_quant=True)"
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{tmp_path / 'theirs'}: {layers} for bitsandbytes, {size:,} bytes\n"
    back = run("convert", tmp_path / "theirs", tmp_path / "ours", "--to", "quant")
    assert back.code == 0
    assert back.out.startswith(f"{tmp_path / 'ours'}: {layers} for quant, ")
    assert (tmp_path / "ours" / "model.safetensors").is_file()


def test_an_interrupted_conversion_is_taken_up(
    run: Run, their_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "ours"
    with monkeypatch.context() as patch:
        patch.setattr(Partial, "complete", interrupt)
        assert run("convert", their_folder, out, "--to", "quant").code == 130
    assert not out.exists()
    done = run("convert", their_folder, out, "--to", "quant")
    tensors = len(open_checkpoint(out).tensors)
    assert done.code == 0
    assert done.out.splitlines()[0] == f"resumed: {tensors} of {tensors} tensors were finished before, and are intact"


def test_restart_discards_what_another_conversion_left(
    run: Run, our_folder: Path, their_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "files").mkdir()
    (tmp_path / "out.partial" / "journal.jsonl").write_text('{"version": "0"}\n', encoding="utf-8")
    check_refused(run("convert", their_folder, tmp_path / "out", "--to", "quant"), "pass --restart to discard")
    assert run("convert", their_folder, tmp_path / "out", "--to", "quant", "--restart").code == 0


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("gguf", "unknown format 'gguf': use --to quant or bitsandbytes"),
        ("quant", r"not a checkpoint of bitsandbytes \(its config\.json has no quantization_config\)"),
        ("bitsandbytes", r"not a checkpoint of this library \(its config\.json has no quantization_config\)"),
    ],
)
def test_a_float_model_is_refused(run: Run, model_folder: Path, tmp_path: Path, to: str, message: str) -> None:
    check_refused(run("convert", model_folder, tmp_path / "out", "--to", to), message)
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_on_the_line_is_told(run: Run, their_folder: Path, tmp_path: Path) -> None:
    check_refused(run("convert", their_folder, tmp_path / "out"), "--to")
    check_refused(run("convert", their_folder, "--to", "quant"), "(?i)out")


def test_an_adapter_is_refused(run: Run, theirs: Path, tmp_path: Path) -> None:
    """Its weights are not those of the checkpoint."""
    (theirs / "adapter_config.json").touch()
    check_refused(run("convert", theirs, tmp_path / "out", "--to", "quant"), "has an adapter .*: merge it into")


def test_a_missing_model_and_a_pickle_are_refused(run: Run, tmp_path: Path, damaged_folder: Path) -> None:
    check_refused(run("convert", tmp_path / "missing", tmp_path / "out", "--to", "quant"), "no such folder")
    (damaged_folder / "model.safetensors").rename(damaged_folder / "pytorch_model.bin")
    check_refused(run("convert", damaged_folder, tmp_path / "out", "--to", "quant"), "pickled weights only")
