"""`quant quantize` and what `quant inspect` says of its folders: one line per fault, and nothing half-written."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from quant import NF4, quantize_tensor, reference_model
from quant.checkpoint.headers import read_header
from quant.checkpoint.manifest import MANIFEST
from tests.checkpoints import flip
from tests.unit.cli_runner import Run, check_refused

LAYER = "model.layers.0.mlp.down_proj"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def made(run: Run, model_folder: Path, out: Path) -> Path:
    """The tiny model in NF4."""
    assert run("quantize", model_folder, out, "--scheme", "nf4").code == 0
    return out


def test_it_says_what_it_made(run: Run, model_folder: Path, out: Path) -> None:
    outcome = run("quantize", model_folder, out, "--scheme", "nf4", "--dtype", "bfloat16", "--exclude", "*.down_proj")
    before, after = ((folder / "model.safetensors").stat().st_size for folder in (model_folder, out))
    down = [f"  left model.layers.{index}.mlp.down_proj: excluded" for index in range(2)]
    assert (outcome.code, outcome.err) == (0, "")
    first, *left = outcome.out.splitlines()
    assert first == (f"{out}: nf4, 6 of 9 linear layers quantized, the rest in bfloat16; {before:,} -> {after:,} bytes")
    assert sorted(left) == ["  left lm_head: output head", *down]


def test_options_reach_the_layers(run: Run, model_folder: Path, out: Path) -> None:
    options = ("--include", "*.o_proj", "--include", "lm_head", "--block-size", 128)
    assert run("quantize", model_folder, out, "--scheme", "int4", *options).code == 0
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))["quantization_config"]
    layers = [*(f"model.layers.{index}.self_attn.o_proj" for index in range(2)), "lm_head"]
    assert (config["block_size"], config["quantized_modules"]) == (128, layers)


def test_searched_scales_are_stored_and_recorded(run: Run, model_folder: Path, out: Path, made: Path) -> None:
    """The same tensors of the same sizes, with other absmax."""
    searched = out.with_name("searched")
    assert run("quantize", model_folder, searched, "--scheme", "nf4", "--scale", "mse").code == 0
    config, plain = (
        json.loads((folder / "config.json").read_text(encoding="utf-8"))["quantization_config"]
        for folder in (searched, made)
    )
    assert config == {**plain, "scale": "mse"}
    tensors, before = (load_file(folder / "model.safetensors") for folder in (searched, made))
    assert {k: (t.shape, t.dtype) for k, t in tensors.items()} == {k: (t.shape, t.dtype) for k, t in before.items()}
    expected = quantize_tensor(load_file(model_folder / "model.safetensors")[f"{LAYER}.weight"], NF4(scale="mse"))
    assert torch.equal(tensors[f"{LAYER}.weight"], expected.codes)
    assert torch.equal(tensors[f"{LAYER}.weight_absmax"], expected.scales)
    assert not torch.equal(before[f"{LAYER}.weight_absmax"], expected.scales)
    assert "scale mse" in run("inspect", searched).out


def test_the_reference_model_by_name(run: Run, model_folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_model, "FOLDER", model_folder)
    assert run("quantize", "reference", out, "--scheme", "w8a16-full").out.startswith(f"{out}: w8a16-full, 9 of 9")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scheme", "w8a17"), "unknown scheme 'w8a17': use one of"),
        (("--scheme", "bnb-nf4"), "a checkpoint cannot be quantized to 'bnb-nf4': use one of w8a16, w8a16-full, nf4"),
        (("--scheme", "baseline"), "a checkpoint cannot be quantized to 'baseline'"),
        (("--scheme", "nf4", "--block-size", 48), "block_size 48 is not allowed"),
        (("--scheme", "nf4", "--dtype", "int8"), "unknown dtype 'int8'"),
        (("--scheme", "w8a16", "--scale", "max"), 'W8A16: scale must be "absmax" or "mse", got \'max\''),
        ((), "pass --scheme, or --plan for mixed precision: see quant quantize --help"),
        (("--plan", "gone.json"), r"gone\.json cannot be read"),
        (("--plan", "gone.json", "--scheme", "nf4"), "--plan says what becomes of every layer: pass it without --sch"),
        (("--plan", "gone.json", "--block-size", 64), "--plan says what becomes of every layer"),
        (("--plan", "gone.json", "--include", "*"), "--plan says what becomes of every layer"),
        (("--plan", "gone.json", "--exclude", "*"), "--plan says what becomes of every layer"),
        (("--plan", "gone.json", "--scale", "mse"), "--plan says what becomes of every layer"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_options_are_checked_before_the_model_is_looked_for(
    run: Run, out: Path, options: tuple[object, ...], message: str
) -> None:
    check_refused(run("quantize", "some-organisation/some-model", out, *options), message)
    assert not out.exists()


def test_an_out_that_exists_is_refused_before_the_model_is_looked_for(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    outcome = run("quantize", "some-organisation/some-model", tmp_path, "--scheme", "nf4")
    check_refused(outcome, "exists: name a folder that does not, or remove it")


def test_patterns_without_a_layer_are_refused(run: Run, model_folder: Path, out: Path) -> None:
    outcome = run("quantize", model_folder, out, "--scheme", "nf4", "--exclude", "down_proj")
    check_refused(outcome, r"pattern 'down_proj' matches no linear layer, did you mean '\*\.down_proj'")


def test_a_tied_head_is_refused(run: Run, tied_folder: Path, out: Path) -> None:
    check_refused(run("quantize", tied_folder, out, "--scheme", "w8a16-full"), r"shared with model\.embed_tokens")


def truncate(folder: Path, size: Callable[[int], int]) -> None:
    path = folder / "model.safetensors"
    os.truncate(path, size(path.stat().st_size))


def append(folder: Path) -> None:
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"\0")


def flip_header(folder: Path) -> None:
    flip(folder / "model.safetensors", 8)


def put_nan(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.1.mlp.down_proj.weight"][-1, -1] = torch.nan
    save_file(tensors, path, metadata={"format": "pt"})


def climb(folder: Path) -> None:
    weight_map = dict.fromkeys(load_file(folder / "model.safetensors"), "../model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")


def add_code(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config.update(model_type="theirs", auto_map={"AutoConfig": "theirs.Config", "AutoModelForCausalLM": "theirs.Model"})
    path.write_text(json.dumps(config), encoding="utf-8")
    (folder / "theirs.py").write_text("raise SystemExit('this code must not run')", encoding="utf-8")


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte too few": (
        lambda f: truncate(f, lambda n: n - 1),
        r"model\.safetensors is damaged .*tensor .* after the file",
    ),
    "half": (lambda f: truncate(f, lambda n: n // 2), r"model\.safetensors is damaged .*tensor .* after the file"),
    "nothing": (lambda f: truncate(f, lambda n: 0), r"model\.safetensors is damaged .*only 0 bytes"),
    "a byte too many": (append, r"model\.safetensors is damaged .*1 bytes after its last tensor"),
    "a flipped bit in the header": (flip_header, r"model\.safetensors is damaged"),
    "NaN": (put_nan, r"model\.safetensors: tensor model\.layers\.1\.mlp\.down_proj\.weight has NaN or infinite values"),
    "an index to elsewhere": (climb, r"index\.json: tensor .* is said to be in '\.\./model\.safetensors'"),
    "an adapter": (lambda f: (f / "adapter_config.json").touch(), r"has an adapter .*: merge it into the model"),
    "pickles": (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "pickled weights only"),
    "code": (add_code, "Python code of its own: pass --trust-remote-code to run it"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_bad_input_is_one_line_and_leaves_nothing_in_place_of_out(
    run: Run, damaged_folder: Path, out: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(damaged_folder)
    check_refused(run("quantize", damaged_folder, out, "--scheme", "nf4"), message)
    assert not out.exists()


def test_a_quantized_folder_is_refused(run: Run, made: Path, tmp_path: Path) -> None:
    check_refused(run("quantize", made, tmp_path / "again", "--scheme", "nf4"), "already quantized")


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_a_full_disk_interrupted_is_taken_up_and_said_so(run: Run, damaged_folder: Path, out: Path) -> None:
    """It is full when the small files are copied."""
    arguments = ("quantize", damaged_folder, out, "--scheme", "w8a16")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shutil.copyfile", full)
        check_refused(run(*arguments), r"json cannot be written \(No space left .*: make room, then run the same")
    assert not out.exists()
    check_refused(run(*arguments, "--dtype", "float16"), r"left from an interrupted run, but of other dtype.*--restart")
    outcome = run(*arguments)
    count = len(read_header(out / "model.safetensors").tensors)
    assert outcome.code == 0
    assert f"resumed: {count} of {count} tensors were finished before, and are intact\n" in outcome.out


def test_restart_discards(run: Run, damaged_folder: Path, out: Path) -> None:
    arguments = ("quantize", damaged_folder, out, "--scheme", "w8a16")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shutil.copyfile", full)
        run(*arguments)
    outcome = run(*arguments, "--dtype", "float16", "--restart")
    assert outcome.code == 0
    assert "resumed" not in outcome.out
    assert not out.with_name("out.partial").exists()


def test_verify_proves_a_folder_intact(run: Run, made: Path) -> None:
    outcome = run("inspect", made, "--verify")
    tensors = len(read_header(made / "model.safetensors").tensors)
    files = [path for path in made.iterdir() if path.name != MANIFEST]
    size = sum(path.stat().st_size for path in files)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == (
        f"{made}: intact, {len(files)} files, {tensors} tensors in them, {size:,} bytes, as quant 0.1.0 wrote them\n"
    )


def test_verify_names_the_tensor_that_differs(run: Run, made: Path) -> None:
    path = made / "model.safetensors"
    tensor = read_header(path).tensors["model.layers.1.mlp.down_proj.weight"]
    content = bytearray(path.read_bytes())
    content[tensor.start + 5] ^= 4
    path.write_bytes(content)
    message = r"model\.safetensors: tensor model\.layers\.1\.mlp\.down_proj\.weight differs from quant-manifest\.json"
    check_refused(run("inspect", made, "--verify"), message)


def test_verify_refuses_what_has_no_manifest(run: Run, model_folder: Path) -> None:
    check_refused(run("inspect", model_folder, "--verify"), r"quant-manifest\.json is missing: only folders that quant")
    check_refused(run("inspect", "x" * 300, "--verify"), "no such folder")


@pytest.mark.parametrize("option", [("--scheme", "nf4"), ("--json",)], ids=" ".join)
def test_verify_takes_no_other_question(run: Run, made: Path, option: tuple[str, ...]) -> None:
    check_refused(run("inspect", made, "--verify", *option), "--verify answers one question")


def test_inspect_says_what_a_quantized_folder_stores(run: Run, made: Path) -> None:
    outcome = run("inspect", made, "--json")
    stored = json.loads(outcome.out)["stored"]
    weights, floats = 2 * 64 * (128 + 64 + 256 + 128), 2 * 512 * 64 + 5 * 64
    size = (made / "model.safetensors").stat().st_size
    assert (outcome.code, outcome.err) == (0, "")
    assert stored == {
        "method": "quant-nf4",
        "options": {"format_version": 1, "block_size": 64, "double_quant": False},
        "dtype": "float32",
        "layers": 8,
        "tensors": 5 + 2 + 8 * 3,
        "bytes_by_dtype": {"float32": 4 * floats + 4 * weights // 64, "uint8": weights // 2 + 8 * 4},
        "bytes_by_file": {"model.safetensors": size},
        "layers_by_scheme": {"nf4, block_size 64, double_quant False": 8},
    }
    text = run("inspect", made).out
    assert "quant-nf4, format_version 1, block_size 64, double_quant False; 8 layers quantized" in text
    assert f"{size:,}" in text


def test_inspect_refuses_a_quantized_folder_where_it_is_to_size_a_scheme(run: Run, made: Path) -> None:
    check_refused(run("inspect", made, "--scheme", "nf4"), "already quantized")
