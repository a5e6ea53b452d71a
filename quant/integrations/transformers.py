"""Models, tokenizers and texts from local folders and the Hugging Face hub.

A hub id is resolved to a local folder first, so everything after that reads files. Without network that fails at once, instead of
after half a minute of retries per file. A folder is checked before transformers sees it, because transformers fills a weight that is
missing in a half-written checkpoint with random numbers and a warning: here every missing, unexpected or mismatched tensor is an error.

Only safetensors are loaded, and code from a checkpoint is run only if the caller passes `trust_remote_code`.
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from quant.errors import QuantError

MODEL_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
CODE_FILES = ("*.py",)
CONNECT_SECONDS = 5


def local_folder(model: str, trust_remote_code: bool = False, weights: bool = True) -> Path:
    """The folder with the files of `model`, a local folder or a hub id (downloaded into the hub's cache).

    Args:
        weights: whether safetensors are needed (sizes need only config.json).

    Raises:
        QuantError: no such folder, no config.json, no safetensors, unknown hub id, no network.
    """
    path = Path(model).expanduser()
    if not path.exists():
        if model.startswith((".", "/", "~")) or model.count("/") != 1:
            raise QuantError(f"model {model!r}: no such folder, and not a hub id like 'organisation/name'")
        path = _download(model, (MODEL_FILES if weights else ("config.json",)) + (CODE_FILES if trust_remote_code else ()))
    if not path.is_dir():
        raise QuantError(f"model {model!r} is a file: pass the folder that holds config.json and the safetensors files")
    _check_json(path / "config.json", "is this a model folder?")
    if weights:
        _check_weights(path)
    return path


def _download(hub_id: str, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import constants, snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError  # noqa: PLC0415

    offline = constants.HF_HUB_OFFLINE or not _reachable(constants.ENDPOINT)
    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(patterns), local_files_only=offline))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        if offline:
            raise QuantError(f"model {hub_id!r} is not in the local cache and the hub cannot be reached: pass a local folder") from error
        reason = str(error).strip().splitlines()[0]
        raise QuantError(f"model {hub_id!r} cannot be downloaded: {reason}") from error


def _reachable(endpoint: str) -> bool:
    if any(os.environ.get(name) for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")):
        return True
    url = urlsplit(endpoint)
    try:
        socket.create_connection((url.hostname or "", url.port or 443), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _check_json(path: Path, hint: str) -> Any:
    if not path.is_file():
        raise QuantError(f"{path} is missing: {hint}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise QuantError(f"{path} is not valid JSON ({error}): the file is damaged or half-written") from error


def _check_weights(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = sorted(set(_check_json(index, "")["weight_map"].values()))
    elif (folder / "model.safetensors").is_file():
        shards = ["model.safetensors"]
    elif any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise QuantError(f"{folder} holds pickled weights only, which can run code when loaded: convert it to safetensors first")
    else:
        raise QuantError(f"{folder} has no model.safetensors: the checkpoint is half-written or not a model")
    for shard in shards:
        _check_shard(folder / shard)


def _check_shard(path: Path) -> None:
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    if not path.is_file():
        raise QuantError(f"{path} is missing: the checkpoint is half-written, download it again")
    try:
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise QuantError(f"{path} is damaged or cut short ({error}): download it again") from error


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and only errors from transformers and bitsandbytes inside the block; restored afterwards."""
    import logging  # noqa: PLC0415

    from transformers.utils import logging as transformers_logging  # noqa: PLC0415

    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    other = logging.getLogger("bitsandbytes")
    level = other.level
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    other.setLevel(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
        other.setLevel(level)


def load_config(folder: Path, trust_remote_code: bool = False) -> Any:
    """The model's configuration.

    Raises:
        QuantError: unknown architecture, or one that needs code from the checkpoint.
    """
    from transformers import AutoConfig  # noqa: PLC0415

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (ValueError, OSError, KeyError) as error:
        raise QuantError(f"{folder}: {_first_line(error)}") from error


def phi3_mini_config() -> Any:
    """The configuration of microsoft/Phi-3-mini-4k-instruct: the defaults of `Phi3Config`, and the published sliding window."""
    from transformers import Phi3Config  # noqa: PLC0415

    return Phi3Config(sliding_window=2047)


def config_dtype(config: Any) -> torch.dtype:
    """The dtype the configuration asks for, float32 where it asks for none."""
    dtype = getattr(config, "dtype", None)
    if isinstance(dtype, str):
        dtype = getattr(torch, dtype, None)
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def build_on_meta(config: Any, dtype: torch.dtype, trust_remote_code: bool = False) -> Any:
    """The causal language model of `config` on the meta device: modules and shapes, no memory, no values."""
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=trust_remote_code)
    except ValueError as error:
        raise QuantError(f"{config.model_type}: {_first_line(error)}") from error


def load_model(
    folder: Path, dtype: torch.dtype, device: str = "cpu", trust_remote_code: bool = False, quantization_config: Any = None
) -> Any:
    """A causal language model in evaluation mode.

    Args:
        dtype: of the parameters; device: "cpu", "cuda", "cuda:1" or "auto" (spread over devices by accelerate).
        quantization_config: passed on to transformers.

    Raises:
        QuantError: unknown architecture, missing, unexpected or mismatched tensors, unreadable files.
    """
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    try:
        with quiet_transformers():
            model, info = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                device_map=None if device == "cpu" else device,
                trust_remote_code=trust_remote_code,
                quantization_config=quantization_config,
                use_safetensors=True,
                output_loading_info=True,
            )
    except (ValueError, OSError, KeyError) as error:
        raise QuantError(f"{folder}: {_first_line(error)}") from error
    wrong = [f"{kind.replace('_', ' ')}: {', '.join(map(str, sorted(names, key=str)[:3]))}" for kind, names in info.items() if names]
    if wrong:
        raise QuantError(f"{folder}: the checkpoint does not fit its config ({'; '.join(wrong)}): it is half-written or mixed up")
    return model.eval()


def load_tokenizer(folder: Path, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a model folder.

    Raises:
        QuantError: there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415

    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    # A damaged tokenizer.json surfaces as whatever the parser raised.
    except Exception as error:
        raise QuantError(f"{folder}: its tokenizer cannot be loaded: {_first_line(error)}") from error


def tokenize(tokenizer: Any, text: str) -> torch.Tensor:
    """int64 [N]: the whole text at once, without special tokens."""
    with quiet_transformers():
        ids = tokenizer(text, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    return torch.tensor(ids, dtype=torch.int64)


def bos_token(tokenizer: Any, rule: str) -> int | None:
    """The token to put before every window under `rule`: "always", "never", or "auto" (what the tokenizer does by itself).

    Raises:
        QuantError: "always" with a tokenizer that has no BOS token, or an unknown rule.
    """
    bos: int | None = tokenizer.bos_token_id
    if rule == "never":
        return None
    if rule == "always":
        if bos is None:
            raise QuantError("the tokenizer has no BOS token: use --bos never")
        return bos
    if rule != "auto":
        raise QuantError(f"unknown BOS rule {rule!r}: use auto, always or never")
    ids = tokenizer("a")["input_ids"]
    return bos if bos is not None and ids and ids[0] == bos else None


def load_dataset_text(dataset: str) -> str:
    """The text column of a hub dataset, joined with blank lines.

    Args:
        dataset: "ID", "ID:CONFIG" or "ID:CONFIG:SPLIT", as in "Salesforce/wikitext:wikitext-2-raw-v1:test"; split defaults to "test".

    Raises:
        QuantError: the `datasets` package is missing, or the dataset cannot be loaded or has no text.
    """
    try:
        from datasets import load_dataset  # noqa: PLC0415
    except ImportError as error:
        raise QuantError("--dataset needs the datasets package: pip install 'quant[datasets]'") from error
    name, _, rest = dataset.partition(":")
    config, _, split = rest.partition(":")
    if not Path(name).exists() and not _reachable(_hub_endpoint()):
        raise QuantError(f"dataset {dataset!r}: the hub cannot be reached: pass a file with --text")
    try:
        rows = load_dataset(name, config or None, split=split or "test")
    except Exception as error:  # datasets raises a dozen types of its own and of its backends
        raise QuantError(f"dataset {dataset!r} cannot be loaded: {_first_line(error)}") from error
    if "text" not in rows.column_names:
        raise QuantError(f"dataset {dataset!r} has no column 'text', only {', '.join(rows.column_names)}")
    return "\n\n".join(rows["text"])


def _hub_endpoint() -> str:
    from huggingface_hub import constants  # noqa: PLC0415

    return str(constants.ENDPOINT)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
