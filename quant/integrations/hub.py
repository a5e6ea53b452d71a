"""The files of a model: a local folder, or a hub id that becomes one; checked before anything loads them.

Without network a hub id fails at once, instead of after half a minute of retries per file. Checkpoints are checked
for missing and damaged shards; only safetensors are accepted, because a pickle can run code when it is read. Refused
as well: checkpoints that are already quantized, which would be sized and measured as something else, and folders with
an adapter, whose weights are not those of the model.
"""

import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from quant.checkpoint.folder import ADAPTER, CONFIG, WEIGHTS, open_checkpoint, read_json
from quant.checkpoint.headers import read_header
from quant.checkpoint.small_files import CODE_FILES, SMALL_FILES
from quant.errors import QuantError

MODEL_FILES = (*SMALL_FILES, f"*{WEIGHTS}")
CONNECT_SECONDS = 5
QUANTIZED_BY = {
    "weight_absmax": "quant",
    "weight_scale": "quant",
    "weight.absmax": "bitsandbytes",
    "SCB": "bitsandbytes",
}
"""Last parts of the names of tensors that only quantized layers have, and whose layers those are."""


def local_folder(
    model: str, trust_remote_code: bool = False, weights: bool = True, allow_quantized: bool = False
) -> Path:
    """The folder with the files of `model`, a local folder or a hub id (downloaded into the hub's cache).

    Args:
        weights: whether safetensors are needed (sizes need only config.json).
        allow_quantized: whether the checkpoint may be quantized already.

    Raises:
        QuantError: no such folder, no config.json, no safetensors, unknown hub id, no network, an adapter, an already
            quantized checkpoint where that is not allowed.
    """
    path = Path(model)
    if not _exists(path):
        if model.startswith((".", "/", "~")) or model.count("/") != 1:
            raise QuantError(f"model {model!r}: no such folder, and not a hub id like 'organisation/name'")
        code = CODE_FILES if trust_remote_code else ()
        _check_config(_download(model, (CONFIG,)), allow_quantized)  # before gigabytes follow
        path = _download(model, (MODEL_FILES if weights else (CONFIG,)) + code)
        if weights and not any(path.glob(f"*{WEIGHTS}")):
            raise QuantError(
                f"model {model!r} has no safetensors on the hub, and pickled weights (.bin, .pt) are refused because "
                "they can run code when read: use a repository with safetensors, or convert it where you trust it "
                "(transformers' save_pretrained writes them) and pass the folder"
            )
    if not path.is_dir():
        raise QuantError(f"model {model!r} is a file: pass the folder that holds config.json and the safetensors files")
    _check_no_adapter(path)
    _check_config(path, allow_quantized)
    if weights:
        _check_weights(path, allow_quantized)
    elif not allow_quantized:
        _check_present_weights(path)
    return path


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that no file system would take
        return False


def _download(hub_id: str, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import constants, snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError  # noqa: PLC0415

    offline = constants.HF_HUB_OFFLINE or not hub_reachable()
    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(patterns), local_files_only=offline))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        if offline:
            raise QuantError(
                f"model {hub_id!r} is not in the local cache and the hub cannot be reached: pass a local folder"
            ) from error
        reason = str(error).strip().splitlines()[0]
        raise QuantError(f"model {hub_id!r} cannot be downloaded: {reason}") from error


def hub_reachable() -> bool:
    """Whether the hub, or a proxy that may lead to it, is there; takes at most `CONNECT_SECONDS`."""
    from huggingface_hub import constants  # noqa: PLC0415

    if any(os.environ.get(name) for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")):
        return True
    url = urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((url.hostname or "", url.port or 443), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _check_no_adapter(folder: Path) -> None:
    if (folder / ADAPTER).exists():
        raise QuantError(
            f"{folder} has an adapter ({ADAPTER}): merge it into the model (PEFT's merge_and_unload), save that with "
            f"save_pretrained and pass its folder, or remove {ADAPTER} if the weights are the model's own"
        )


def _check_config(folder: Path, allow_quantized: bool) -> None:
    path = folder / CONFIG
    if not path.is_file():
        raise QuantError(f"{path} is missing: pass a folder that save_pretrained wrote, or a hub id")
    config = read_json(path)
    quantized = config.get("quantization_config") if isinstance(config, dict) else None
    if quantized and not allow_quantized:
        method = quantized.get("quant_method", "unknown") if isinstance(quantized, dict) else "unknown"
        raise QuantError(
            f"{folder} is already quantized (its config.json has a quantization_config, method {method!r}): pass the "
            "float checkpoint"
        )


def _check_weights(folder: Path, allow_quantized: bool) -> None:
    for header in open_checkpoint(folder).files.values():
        if not allow_quantized:
            _check_names(header.path, header.tensors)


def _check_present_weights(folder: Path) -> None:
    """Where only sizes are wanted, weights may be missing or cut short, but those that are there must be float."""
    for path in sorted(folder.glob(f"*{WEIGHTS}")):
        names: Iterable[str] = ()
        with suppress(QuantError):
            names = read_header(path).tensors
        _check_names(path, names)


def _check_names(path: Path, names: Iterable[str]) -> None:
    for name in names:
        for ending, library in QUANTIZED_BY.items():
            if name.endswith(f".{ending}"):
                raise QuantError(
                    f"{path} is already quantized (layers of {library}: it holds {name}): pass the float checkpoint"
                    + (", or load it into a quantized model with load_state_dict" if library == "quant" else "")
                )
