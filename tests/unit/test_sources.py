"""From options to a text and windows: dtypes, files, datasets, BOS and the default window."""

import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from quant import reference_model, sources
from quant.errors import QuantError
from quant.integrations import transformers
from quant.sources import REFERENCE, Source, cut_windows, parse_dtype, read_text
from tests.fakes import StubTokenizer


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("tried to connect"))


def source(name: str, positions: int | None, folder: Path = Path()) -> Source:
    return Source(
        name, folder, SimpleNamespace(max_position_embeddings=positions), torch.float32, trust_remote_code=False
    )


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_dtypes_by_name(name: str) -> None:
    assert parse_dtype(name, SimpleNamespace()) == getattr(torch, name)


def test_dtype_auto_is_the_configs_and_float32_without() -> None:
    assert parse_dtype("auto", SimpleNamespace(dtype=torch.bfloat16)) == torch.bfloat16
    assert parse_dtype("auto", SimpleNamespace(dtype="float16")) == torch.float16
    assert parse_dtype("auto", SimpleNamespace(dtype=None)) == torch.float32
    with pytest.raises(QuantError, match="unknown dtype 'int8': use auto, float32, bfloat16, float16"):
        parse_dtype("int8", SimpleNamespace())


def test_texts_are_read_as_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("naïve, 日本\n".encode())
    assert read_text(path, None) == "naïve, 日本\n"


@pytest.mark.parametrize("content", [b"", b" \n\t "])
def test_an_empty_text_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(QuantError, match=r"text\.txt is empty"):
        read_text(path, None)


def test_unreadable_texts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"ab\xff")
    with pytest.raises(QuantError, match=r"text\.txt is not UTF-8 \(byte 2\)"):
        read_text(path, None)
    with pytest.raises(QuantError, match=r"missing\.txt cannot be read: No such file"):
        read_text(tmp_path / "missing.txt", None)
    with pytest.raises(QuantError, match="cannot be read: Is a directory"):
        read_text(tmp_path, None)


def test_a_text_and_a_dataset_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(QuantError, match="pass one of them"):
        read_text(tmp_path / "text.txt", "some/dataset")


def test_without_text_and_dataset_it_is_the_embedded_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_model, "held_out_text", lambda: "held out")
    assert read_text(None, None) == "held out"


def test_a_dataset_is_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "load_dataset_text", lambda name: f"text of {name}")
    assert read_text(None, "some/dataset") == "text of some/dataset"
    monkeypatch.setattr(sources, "load_dataset_text", lambda name: "")
    with pytest.raises(QuantError, match="some/dataset is empty"):
        read_text(None, "some/dataset")


@pytest.mark.parametrize(
    ("name", "positions", "window"),
    [(REFERENCE, 512, 256), ("mine", 512, 512), ("mine", 4096, 2048), ("mine", None, 2048), ("mine", 2048, 2048)],
)
def test_the_default_window_is_what_the_model_holds_up_to_2048(name: str, positions: int | None, window: int) -> None:
    assert sources.LARGEST_DEFAULT_WINDOW == 2048
    windows = cut_windows(source(name, positions), StubTokenizer(), "text", None, None, "auto", None)
    assert (windows.window, windows.stride, windows.bos_id) == (window, None, None)


def test_options_reach_the_windows() -> None:
    windows = cut_windows(source("mine", 64), StubTokenizer(7), "a longer text", 5, 2, "always", 6)
    assert windows.ids.tolist() == [3 + byte for byte in b"a long"]
    assert (windows.window, windows.stride, windows.bos_id) == (5, 2, 7)


@pytest.mark.parametrize("max_tokens", [1, 0, -5])
def test_a_limit_below_two_tokens_is_refused(max_tokens: int) -> None:
    with pytest.raises(QuantError, match=f"--max-tokens {max_tokens}"):
        cut_windows(source("mine", 64), StubTokenizer(), "a longer text", None, None, "auto", max_tokens)


def test_a_text_of_one_token_is_refused() -> None:
    with pytest.raises(QuantError, match="has 1 tokens"):
        cut_windows(source("mine", 64), StubTokenizer(), "a", None, None, "auto", None)


def test_the_real_tokenizer_adds_nothing_to_the_text(model_folder: Path) -> None:
    tokenizer = transformers.load_tokenizer(model_folder)
    ids = transformers.tokenize(tokenizer, "some words\n")
    assert ids.dtype == torch.int64
    assert tokenizer.decode(ids) == "some words\n"
    assert not set(ids.tolist()) & {0, 1, 2}
    assert transformers.bos_token(tokenizer, "auto") is None
    assert transformers.bos_token(tokenizer, "always") == 1
