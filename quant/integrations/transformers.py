"""Models and tokenizers from a checked folder (`quant.integrations.hub`), through transformers.

transformers fills a weight that is missing in a half-written checkpoint with random numbers and a warning; here every
missing, unexpected or mismatched tensor is an error. Code from a checkpoint runs only if the caller passes
`trust_remote_code`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from quant.errors import QuantError
from quant.schemes import Scheme


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

    with _refusing(str(folder)):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        dtype = config.dtype
        if isinstance(dtype, str) and not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise ValueError(f"its config asks for the unknown dtype {dtype!r}")
    return config


def phi3_mini_config() -> Any:
    """The configuration of microsoft/Phi-3-mini-4k-instruct: the defaults of `Phi3Config`, and the published sliding
    window.
    """
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

    with _refusing(config.model_type), torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=trust_remote_code)


def on_load(scheme: Scheme, include: list[str] | None) -> Any:
    """The `quantization_config` for `load_model` that quantizes the layers that `include` chooses, tensor by tensor."""
    from quant.integrations.quantization_config import QuantConfig  # noqa: PLC0415

    return QuantConfig.of(scheme, include=include)


def load_model(
    folder: Path,
    dtype: torch.dtype,
    device: str = "cpu",
    trust_remote_code: bool = False,
    quantization_config: Any = None,
) -> Any:
    """A causal language model in evaluation mode.

    Args:
        dtype: of the parameters; device: "cpu", "cuda", "cuda:1" or "auto": spread over devices by accelerate, and what
            does not fit on them left in the CPU's memory or on disk, codes too, and fetched for every call.
        quantization_config: passed on to transformers.

    Raises:
        QuantError: unknown architecture, missing, unexpected or mismatched tensors, unreadable files.
    """
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    check_device(device)
    remedy = "use --device cpu or cuda:N, or a smaller model" if device == "auto" else ""
    # None would overrule the quantization_config that a checkpoint has.
    quantization = {} if quantization_config is None else {"quantization_config": quantization_config}
    with _refusing(f"{folder} on device {device}", remedy), quiet_transformers():
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            device_map=None if device == "cpu" else device,
            offload_buffers=device == "auto",
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are in `info`, and refused below by name
            **quantization,
        )
    _check_complete(folder, info)
    return model.eval()


def _check_complete(folder: Path, info: dict[str, Any]) -> None:
    """info: kind of fault -> tensors that have it, from transformers."""
    wrong = [
        f"{kind.replace('_', ' ')}: {', '.join(map(str, sorted(names, key=str)[:3]))}"
        for kind, names in info.items()
        if names
    ]
    if wrong:
        raise QuantError(
            f"{folder}: the checkpoint does not fit its config ({'; '.join(wrong)}): it is half-written or mixed up, "
            "download or save it again"
        )


def load_tokenizer(folder: Path, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a model folder.

    Raises:
        QuantError: there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415

    remedy = "save the tokenizer of this model into the folder, as tokenizer.json"
    with _refusing(f"{folder}: its tokenizer cannot be loaded", remedy), quiet_transformers():
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)


def tokenize(tokenizer: Any, text: str) -> torch.Tensor:
    """int64 [N]: the whole text at once, without special tokens."""
    with quiet_transformers():
        ids = tokenizer(text, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    return torch.tensor(ids, dtype=torch.int64)


def check_bos_rule(rule: str) -> None:
    """Raises:
    QuantError: not one of the rules of `bos_token`.
    """
    if rule not in ("auto", "always", "never"):
        raise QuantError(f"unknown BOS rule {rule!r}: use auto, always or never")


def bos_token(tokenizer: Any, rule: str) -> int | None:
    """The token to put before every window under `rule`: "always", "never", or "auto" (what the tokenizer does by
    itself).

    Raises:
        QuantError: "always" with a tokenizer that has no BOS token, or an unknown rule.
    """
    check_bos_rule(rule)
    bos: int | None = tokenizer.bos_token_id
    if rule == "never":
        return None
    if rule == "always":
        if bos is None:
            raise QuantError("the tokenizer has no BOS token: use --bos never")
        return bos
    ids = tokenizer("a")["input_ids"]
    return bos if bos is not None and ids and ids[0] == bos else None


LONGEST_REASON = 300


@contextmanager
def _refusing(what: str, remedy: str = "") -> Iterator[None]:
    """Turn whatever transformers raises about foreign files into one line about `what`.

    Damaged or unusual configs surface as any type, from ZeroDivisionError to the validators' own. Running out of memory
    is not the file's fault and passes.
    """
    try:
        yield
    except (QuantError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise QuantError(
                f"{what}: it comes with Python code of its own: pass --trust-remote-code to run it, if you trust it"
            ) from error
        kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
        reason = f"{kind}{_one_line(str(error))}"
        raise QuantError(f"{what} ({reason}): {remedy}" if remedy else f"{what}: {reason}") from error


def _one_line(message: str) -> str:
    """The whole message where it is short, else as many of its sentences as fit."""
    line = " ".join(message.split())
    if len(line) > LONGEST_REASON:
        line = line[:LONGEST_REASON].rpartition(". ")[0] or f"{line[:LONGEST_REASON]} ..."
    return line.rstrip(" .:")


def check_device(device: str) -> None:
    """Raises:
    QuantError: not a device name, or a CUDA device that this machine does not have.
    """
    if device == "auto":
        return
    try:
        parsed = torch.device(device)
    except RuntimeError as error:
        raise QuantError(f"unknown device {device!r}: use cpu, cuda, cuda:N or auto") from error
    if parsed.type == "meta":
        raise QuantError("device 'meta' holds no values and cannot compute: use cpu, cuda, cuda:N or auto")
    count = torch.cuda.device_count()
    if parsed.type == "cuda" and (parsed.index or 0) >= count:
        raise QuantError(f"device {device!r} is not there, torch sees {count} CUDA devices: use cpu")
