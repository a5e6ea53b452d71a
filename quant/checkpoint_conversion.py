"""`quant convert`: a checkpoint of bitsandbytes into one of ours, and back, tensor by tensor and without loss.

Either way the folder holds what the other library would have saved: the same codes and absmax to the bit, the rest of
the model as it was, `config.json` with another `quantization_config`, tokenizer and other small files. The model exists
as a skeleton on the meta device only, which says which linear layers there are, of which shape and in which order.

What is not kept, because it is about computing and not about the weights: bitsandbytes' compute dtype, storage dtype
and LLM.int8 settings. A checkpoint of bitsandbytes is written to compute in the model's dtype, with codes as uint8.

The dtype that the weights had before they were quantized is that of the model (`dtype` in config.json) for ours, and of
each weight for bitsandbytes. Where the two differ the checkpoint is refused: dequantized by us it would be another one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from quant.checkpoint.bitsandbytes_jobs import Converted, jobs_from_bitsandbytes, jobs_to_bitsandbytes
from quant.checkpoint.bitsandbytes_layout import check_exportable
from quant.checkpoint.folder import CONFIG, Checkpoint, open_checkpoint, read_json
from quant.checkpoint.manifest import Watch
from quant.checkpoint.plan import Plan
from quant.checkpoint.reading import Inputs
from quant.checkpoint.run import Outcome, check_out, run
from quant.checkpoint.small_files import config_text, files_to_copy
from quant.convert import counted
from quant.dtypes import dtype_name
from quant.errors import QuantError
from quant.integrations.bitsandbytes_config import bitsandbytes_config, is_bitsandbytes
from quant.integrations.our_config import our_config, read_our_config
from quant.integrations.skeleton import check_present
from quant.integrations.transformers import build_on_meta
from quant.linears import is_linear, read_linear
from quant.schemes import Blockwise, Scheme
from quant.sources import Source, open_source

OURS, THEIRS = "quant", "bitsandbytes"
FORMATS = (OURS, THEIRS)


@dataclass(frozen=True)
class ConvertedCheckpoint:
    """outcome: of the run; scheme: of the quantized layers; layers: their names, in model order."""

    outcome: Outcome
    scheme: Scheme
    layers: tuple[str, ...]


def convert_checkpoint(
    model: str | Path,
    out: str | Path,
    to: str,
    trust_remote_code: bool = False,
    restart: bool = False,
    watch: Watch = lambda done, total: None,
) -> ConvertedCheckpoint:
    """Convert the quantized checkpoint MODEL into the folder `out`.

    Args:
        model: local folder or hub id, with safetensors.
        to: "quant" for a checkpoint of bitsandbytes, "bitsandbytes" for one of ours.
        restart, watch: see `quant.checkpoint.run`.

    Raises:
        QuantError: another format, a checkpoint that is not in the one to convert from, what
            `quant.checkpoint.bitsandbytes_layout` refuses, files that are damaged or do not fit, `out` exists.
    """
    check_format(to)
    model, out = str(model), Path(out)
    check_out(out)
    source = open_source(model, trust_remote_code=trust_remote_code, allow_quantized=True)
    checkpoint = open_checkpoint(source.folder)
    config = read_json(source.folder / CONFIG)
    with Inputs(checkpoint) as inputs:
        make = _from_bitsandbytes if to == OURS else _to_bitsandbytes
        converted, config = make(source, inputs, config)
    settings = {"to": to, "scheme": str(converted.scheme), "dtype": str(converted.dtype)}
    copies = files_to_copy(source.folder, trust_remote_code)
    plan = Plan(converted.jobs, checkpoint.sharded, settings, {CONFIG: config_text(config)}, copies)
    return ConvertedCheckpoint(run(plan, checkpoint, out, restart, watch), converted.scheme, converted.layers)


def check_format(to: str) -> None:
    """Raises:
    QuantError: not one of `FORMATS`.
    """
    if to not in FORMATS:
        raise QuantError(f"unknown format {to!r}: use --to {' or '.join(FORMATS)}")


def _from_bitsandbytes(source: Source, inputs: Inputs, config: dict[str, Any]) -> tuple[Converted, dict[str, Any]]:
    """The jobs, and the new content of config.json."""
    if not is_bitsandbytes(config.get("quantization_config")):
        raise QuantError(f"{source.folder} is not a checkpoint of bitsandbytes ({_method(config)}): {_ELSE}")
    _, layers = _skeleton(source, inputs.checkpoint)
    converted = jobs_from_bitsandbytes(inputs, layers)
    dtype = dtype_name(converted.dtype)
    declared = _declared_dtype(config) or dtype
    if declared != dtype:
        raise QuantError(
            f"{source.folder}: the layers were quantized from {dtype}, config.json says dtype {declared}: write "
            f"{dtype} there to have the model loaded in it"
        )
    ours = our_config(dict.fromkeys(converted.layers, converted.scheme))
    kept = {name: value for name, value in config.items() if name != "torch_dtype"}  # the older name of dtype
    return converted, {**kept, "dtype": dtype, "quantization_config": ours}


def _to_bitsandbytes(source: Source, inputs: Inputs, config: dict[str, Any]) -> tuple[Converted, dict[str, Any]]:
    """The jobs, and the new content of config.json."""
    scheme, names = _read_ours(source.folder, config)
    if not _declared_dtype(config):
        raise QuantError(f"{source.folder}: its config.json has no dtype, which the layers dequantize to: add it")
    skeleton, layers = _skeleton(source, inputs.checkpoint)
    if not names <= layers.keys():
        raise QuantError(
            f"{source.folder}: {min(names - layers.keys())}, one of the quantized_modules of its config.json, is no "
            "linear layer of the model: the two do not belong together"
        )
    chosen = {name: shape for name, shape in layers.items() if name in names}
    converted = jobs_to_bitsandbytes(inputs, chosen, scheme, source.dtype)
    theirs = bitsandbytes_config(skeleton, chosen, scheme, source.dtype)
    return converted, {**config, "quantization_config": theirs}


def _declared_dtype(config: Mapping[str, Any]) -> Any:
    """What config.json says under either of its names for it, None where it says nothing or null."""
    return config.get("dtype") or config.get("torch_dtype")


def _read_ours(folder: Path, config: Mapping[str, Any]) -> tuple[Blockwise, frozenset[str]]:
    """The scheme and the names of the quantized layers, from the content of config.json."""
    try:
        found = read_our_config(config.get("quantization_config"))
        if found is not None:
            return check_exportable(_only(found)), frozenset(found)
    except QuantError as error:
        raise QuantError(f"{folder}: {error}") from error
    raise QuantError(f"{folder} is not a checkpoint of this library ({_method(config)}): {_ELSE}")


def _only(schemes: Mapping[str, Scheme]) -> Scheme:
    """The scheme of all layers.

    Raises:
        QuantError: none is quantized, or they have several.
    """
    found = set(schemes.values())
    if len(found) != 1:
        several = f"layers of several schemes ({counted(schemes)})" if found else "no quantized layers"
        raise QuantError(
            f"it has {several}, and a checkpoint of bitsandbytes has one for all: quantize the float checkpoint anew"
        )
    return found.pop()


def _skeleton(source: Source, checkpoint: Checkpoint) -> tuple[Any, dict[str, torch.Size]]:
    """The model without values, and name -> [out, in] of its linear layers, in model order.

    Raises:
        QuantError: the checkpoint lacks a tensor of it.
    """
    skeleton = build_on_meta(source.config, source.dtype, source.trust_remote_code)
    check_present(skeleton, checkpoint, "download or make it again, from the float checkpoint")
    layers = {name: module for name, module in skeleton.named_modules() if is_linear(module)}
    return skeleton, {name: read_linear(layer).weight.shape for name, layer in layers.items()}


def _method(config: Mapping[str, Any]) -> str:
    quantization = config.get("quantization_config")
    if not quantization:
        return "its config.json has no quantization_config"
    method = quantization.get("quant_method", "unknown") if isinstance(quantization, dict) else "unknown"
    return f"its quantization_config has method {method!r}"


_ELSE = "pass one, or quantize a float checkpoint (quant quantize)"
