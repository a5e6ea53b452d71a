"""Bad input on the command line: one line on stderr, exit code 2, no file, and no model loaded where that can be seen
before.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.unit.cli_runner import QUICK, Run, check_refused, subprocess_run

pytestmark = pytest.mark.usefixtures("quick_comparisons")


def test_the_refused_number_is_the_one_that_was_typed(run: Run, model_folder: Path, text_file: Path) -> None:
    outcome = run("compare", model_folder, "--text", text_file, *QUICK, "--max-tokens", 100, "--new-tokens", 500)
    check_refused(outcome, "--new-tokens 500")


def test_the_home_of_an_unknown_user_is_refused(run: Run) -> None:
    check_refused(run("inspect", "~no-such-user/model"), "no such folder")


def test_a_device_that_cannot_compute_is_refused(run: Run, model_folder: Path, text_file: Path) -> None:
    check_refused(run("compare", model_folder, "--text", text_file, *QUICK, "--device", "meta"), "meta")


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"a", "has 1 tokens, perplexity needs at least two"),
        (b"caf\xe9", r"is not UTF-8 \(byte 3\)"),
    ],
    ids=["empty", "blank", "one token", "Latin-1"],
)
def test_a_bad_text_is_refused_before_a_model_is_loaded(
    run: Run, model_folder: Path, tmp_path: Path, content: bytes, message: str
) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes(content)
    target = tmp_path / "out.json"
    check_refused(run("compare", model_folder, "--text", text, *QUICK, "--json", target), message)
    assert list(tmp_path.iterdir()) == [text]


def remove_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def truncate_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def remove_shard(folder: Path) -> None:
    weight_map = dict.fromkeys(load_file(folder / "model.safetensors"), "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")


def pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def shrink_vocabulary(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "vocab_size": 50}), encoding="utf-8")


def remove_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "no such folder"),
        (remove_config, r"config\.json is missing"),
        (truncate_weights, r"model\.safetensors is damaged or cut short"),
        (remove_shard, r"model-00001-of-00002\.safetensors is missing"),
        (pickle_only, "pickled weights only"),
        (remove_tokenizer, "its tokenizer cannot be loaded"),
        (shrink_vocabulary, r"token id \d+ is outside the model's vocabulary of 50: use the tokenizer"),
    ],
    ids=["no folder", "no config", "truncated", "no shard", "pickle only", "no tokenizer", "small vocabulary"],
)
def test_a_damaged_model_is_refused_before_it_is_loaded(
    run: Run, damaged_folder: Path, text_file: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(damaged_folder)
    target = tmp_path / "out.json"
    check_refused(run("compare", damaged_folder, "--text", text_file, *QUICK, "--json", target), message)
    assert not target.exists()


def test_a_missing_tensor_is_refused_when_loading_and_leaves_no_file(
    run: Run, damaged_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    path = damaged_folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.norm.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    outcome = run(
        "compare",
        damaged_folder,
        "--text",
        text_file,
        *QUICK,
        "--json",
        outputs / "out.json",
        "--report",
        outputs / "report",
    )
    check_refused(outcome, r"missing keys: model\.norm\.weight")
    assert not list(outputs.iterdir())


@pytest.mark.usefixtures("no_model")
def test_a_hub_id_without_network_is_refused(run: Run, text_file: Path) -> None:
    check_refused(run("compare", "some-organisation/some-model", "--text", text_file), "pass a local folder")
    check_refused(run("inspect", "some-organisation/some-model"), "pass a local folder")


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        ("w8a17", "unknown scheme 'w8a17'"),
        ("bnb-nf4", "cannot size 'bnb-nf4' without loading it: use quant compare"),
        ("baseline", "cannot size 'baseline'"),
    ],
)
def test_inspect_refuses_schemes_that_it_cannot_apply(run: Run, model_folder: Path, scheme: str, message: str) -> None:
    check_refused(run("inspect", model_folder, "--scheme", scheme), message)


def test_inspect_refuses_a_tied_head(run: Run, tied_folder: Path) -> None:
    check_refused(run("inspect", tied_folder, "--scheme", "w8a16-full"), "shared with model.embed_tokens")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there_is_refused(run: Run, model_folder: Path, text_file: Path) -> None:
    check_refused(run("compare", model_folder, "--text", text_file, *QUICK, "--device", "cuda"), "cuda")


def test_a_name_too_long_for_the_file_system_is_refused(run: Run) -> None:
    check_refused(run("inspect", "x" * 300), "no such folder")


def test_bad_input_to_a_fresh_process_is_one_line_and_code_2(tmp_path: Path, text_file: Path) -> None:
    check_refused(subprocess_run("compare", tmp_path / "missing", "--text", text_file), "no such folder")
