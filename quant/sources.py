"""From what the user typed to what is evaluated: MODEL, --text, --dataset, --dtype.

MODEL is `reference` (the embedded model), `phi-3-mini`, a local folder or a hub id. The text is a file, a hub
dataset, or by default the embedded held-out text, which works for every model but says most about the one that was
trained on its like.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from quant import reference_model
from quant.dtypes import MODEL_DTYPES, dtype_name
from quant.errors import QuantError
from quant.evaluate.limits import check_positions, check_vocabulary, position_limit
from quant.evaluate.windows import TokenWindows
from quant.integrations import transformers
from quant.integrations.datasets import load_dataset_text
from quant.integrations.hub import local_folder

REFERENCE = "reference"
PHI_3_MINI = "phi-3-mini"
PHI_3_MINI_ID = "microsoft/Phi-3-mini-4k-instruct"
LARGEST_DEFAULT_WINDOW = 2048
"""Phi-3-mini's sliding window is 2047, beyond which attention is no longer full; and longer windows cost memory."""


@dataclass(frozen=True)
class Source:
    """A model to load: its folder, configuration and the dtype to load it in."""

    name: str
    folder: Path
    config: Any
    dtype: torch.dtype
    trust_remote_code: bool


def open_source(
    model: str, dtype: str = "auto", trust_remote_code: bool = False, allow_quantized: bool = False
) -> Source:
    """Find the files of MODEL, whose weights are float unless it may be quantized.

    Raises:
        QuantError: no such model, unreadable or incomplete files, unknown dtype.
    """
    if model == REFERENCE:
        folder = local_folder(str(reference_model.FOLDER))
    else:
        folder = local_folder(
            PHI_3_MINI_ID if model == PHI_3_MINI else model, trust_remote_code, allow_quantized=allow_quantized
        )
    config = transformers.load_config(folder, trust_remote_code)
    return Source(model, folder, config, parse_dtype(dtype, config), trust_remote_code)


def build_for_sizing(model: str, dtype: str = "auto", trust_remote_code: bool = False) -> tuple[Any, str]:
    """MODEL on the meta device and the name of its dtype; needs only its configuration, phi-3-mini not even that.

    Raises:
        QuantError: as `open_source`.
    """
    if model == PHI_3_MINI:
        config = transformers.phi3_mini_config()
    else:
        name = str(reference_model.FOLDER) if model == REFERENCE else model
        config = transformers.load_config(local_folder(name, trust_remote_code, weights=False), trust_remote_code)
    parsed = parse_dtype(dtype, config)
    return transformers.build_on_meta(config, parsed, trust_remote_code), dtype_name(parsed)


def parse_dtype(name: str, config: Any) -> torch.dtype:
    """The dtype called `name`; "auto" is what the configuration says, else float32."""
    if name == "auto":
        return transformers.config_dtype(config)
    check_dtype_name(name)
    return MODEL_DTYPES[name]


def check_dtype_name(name: str) -> None:
    """Raises:
    QuantError: neither "auto" nor one of `MODEL_DTYPES`.
    """
    if name != "auto" and name not in MODEL_DTYPES:
        raise QuantError(f"unknown dtype {name!r}: use auto, {', '.join(MODEL_DTYPES)}")


def read_text(text: Path | None, dataset: str | None) -> str:
    """The text to evaluate on.

    Raises:
        QuantError: both given, the file is missing, not UTF-8 or empty, the dataset cannot be loaded.
    """
    if text is not None and dataset is not None:
        raise QuantError("--text and --dataset are two texts: pass one of them")
    if dataset is not None:
        content, name = load_dataset_text(dataset), dataset
    elif text is None:
        return reference_model.held_out_text()
    else:
        name = str(text)
        try:
            content = text.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise QuantError(
                f"{text} is not UTF-8 (byte {error.start}): convert it, for example with iconv -t utf-8"
            ) from error
        except OSError as error:
            raise QuantError(f"{text} cannot be read: {error.strerror}") from error
    if not content.strip():
        raise QuantError(f"{name} is empty: perplexity needs a text of at least two tokens")
    return content


def check_window(window: int | None, stride: int | None) -> None:
    """What can be told of the two without a model: see `TokenWindows`.

    Raises:
        QuantError: a stride larger than the window.
    """
    if window is not None and stride is not None and stride > window:
        raise QuantError(
            f"--stride {stride} is larger than --window {window} and would skip tokens: use at most {window}"
        )


def cut_windows(
    source: Source, tokenizer: Any, text: str, window: int | None, stride: int | None, bos: str, max_tokens: int | None
) -> TokenWindows:
    """Tokenize `text` once and cut it; `window` None is 256 for the reference model, else at most 2048 and what the
    model holds.

    Raises:
        QuantError: too few tokens, a window or stride out of range, or tokens that the model has no embedding for.
    """
    if max_tokens is not None and max_tokens < 2:
        raise QuantError(f"--max-tokens {max_tokens}: perplexity needs at least two tokens")
    if window is None:
        positions = position_limit(source.config) or LARGEST_DEFAULT_WINDOW
        window = reference_model.WINDOW if source.name == REFERENCE else min(positions, LARGEST_DEFAULT_WINDOW)
    check_positions(source.config, window, "--window")
    ids = transformers.tokenize(tokenizer, text)[:max_tokens]
    windows = TokenWindows(ids, window, stride, transformers.bos_token(tokenizer, bos))
    check_vocabulary(source.config, windows.ids, windows.bos_id)
    return windows
