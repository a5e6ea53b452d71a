"""The files of a model: a local folder, or a hub id that becomes one; checked before anything loads them.

Without network a hub id fails at once, instead of after half a minute of retries per file. Checkpoints are checked
for missing and damaged shards; only safetensors are accepted, because a pickle can run code when it is read.
"""

import json
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

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
    path = Path(model)
    if not _exists(path):
        if model.startswith((".", "/", "~")) or model.count("/") != 1:
            raise QuantError(f"model {model!r}: no such folder, and not a hub id like 'organisation/name'")
        path = _download(
            model, (MODEL_FILES if weights else ("config.json",)) + (CODE_FILES if trust_remote_code else ())
        )
    if not path.is_dir():
        raise QuantError(f"model {model!r} is a file: pass the folder that holds config.json and the safetensors files")
    _check_json(path / "config.json", "is this a model folder?")
    if weights:
        _check_weights(path)
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
        shards = _shards(index)
    elif (folder / "model.safetensors").is_file():
        shards = ["model.safetensors"]
    elif any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise QuantError(
            f"{folder} holds pickled weights only, which can run code when loaded: convert it to safetensors first"
        )
    else:
        raise QuantError(f"{folder} has no model.safetensors: the checkpoint is half-written or not a model")
    for shard in shards:
        _check_shard(folder / shard)


def _shards(index: Path) -> list[str]:
    """Names of the files that a model.safetensors.index.json lists."""
    content = _check_json(index, "")
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    names = list(weight_map.values()) if isinstance(weight_map, dict) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise QuantError(f"{index} has no weight_map from tensors to files: the file is damaged, download it again")
    return sorted(set(names))


def _check_shard(path: Path) -> None:
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    if not path.is_file():
        raise QuantError(f"{path} is missing: the checkpoint is half-written, download it again")
    try:
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise QuantError(f"{path} is damaged or cut short ({error}): download it again") from error
