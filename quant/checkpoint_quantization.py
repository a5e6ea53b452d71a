"""`quant quantize`: from MODEL and a scheme, or one for each layer, to a plan of the checkpoint, without building the
model.

The model exists as a skeleton on the meta device only, made from its configuration. It says which tensors are weights
of linear layers, which of these to quantize (`quant.assignment`, so include, exclude and mixed precision mean what they
mean for `quant.quantize`), and which dtype each tensor has in memory. All else is `quant.checkpoint`.

The folder that is made holds what `quant.quantize` and `save_pretrained` would have stored of the model that
`from_pretrained(dtype=...)` loads, in the same files as the input; `config.json` with the dtype and how it is
quantized; the tokenizer and other small files, copied. Pickles are never copied, Python code only if it is trusted.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from quant.assignment import Assignment, assign
from quant.checkpoint.folder import CONFIG, Checkpoint, open_checkpoint, read_json
from quant.checkpoint.manifest import Watch
from quant.checkpoint.plan import Job, Plan
from quant.checkpoint.run import Outcome, check_out, run
from quant.checkpoint.small_files import config_text, files_to_copy
from quant.checkpoint.tensor_jobs import cast_job, quantize_job
from quant.convert import counted
from quant.dtypes import dtype_name
from quant.errors import QuantError
from quant.integrations.our_config import our_config
from quant.integrations.skeleton import first_float_dtype, stored_dtypes
from quant.integrations.transformers import build_on_meta
from quant.linears import is_transposed
from quant.mixed_precision import MixedPrecision
from quant.schemes import Scheme
from quant.sources import Source, check_dtype_name, open_source
from quant.variants import OURS, VARIANTS, check_variants, included_by, scheme_of


@dataclass(frozen=True)
class QuantizedCheckpoint:
    """What was made.

    Attributes:
        outcome: of the run.
        dtype: of what was left in float, by name.
        assignment: the layers that were quantized, with their schemes, and left.
        bytes_before: of the checkpoint's safetensors files.
    """

    outcome: Outcome
    dtype: str
    assignment: Assignment
    bytes_before: int


def quantize_checkpoint(
    model: str | Path,
    out: str | Path,
    name: str | MixedPrecision,
    block_size: int = 64,
    dtype: str = "auto",
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    trust_remote_code: bool = False,
    restart: bool = False,
    watch: Watch = lambda done, total: None,
    scale: str = "absmax",
) -> QuantizedCheckpoint:
    """Quantize the checkpoint MODEL into the folder `out`.

    Args:
        model: local folder, hub id, `reference` or `phi-3-mini`.
        name: of the scheme: one of `quant.variants.OURS`; or, for mixed precision, the scheme of each layer.
        block_size, scale: options of the scheme, see `quant.schemes`; one without blocks has no block size, and mixed
            precision has its own.
        include, exclude: globs as for `quant.quantize`; none is all.
        restart, watch: see `quant.checkpoint.run`.

    Raises:
        QuantError: see `quant.checkpoint.run`; no such scheme, dtype, block size or scale, all before a model is looked
            for; no such model, one that cannot be quantized, or files that do not fit.
    """
    scheme = name if isinstance(name, MixedPrecision) else _scheme_called(name, block_size, scale)
    check_dtype_name(dtype)
    model, out = str(model), Path(out)
    check_out(out)
    source = open_source(model, dtype, trust_remote_code)
    checkpoint = open_checkpoint(source.folder)
    if dtype == "auto" and getattr(source.config, "dtype", None) is None:
        source = replace(source, dtype=first_float_dtype(checkpoint))
    skeleton = build_on_meta(source.config, source.dtype, source.trust_remote_code)
    included = included_by(name, skeleton, tuple(include)) if isinstance(name, str) else list(include) or None
    assignment = assign(skeleton, scheme, included, tuple(exclude) or None)
    plan = plan_quantizing(source, checkpoint, skeleton, assignment)
    outcome = run(plan, checkpoint, out, restart, watch)
    before = sum(header.size for header in checkpoint.files.values())
    return QuantizedCheckpoint(outcome, dtype_name(source.dtype), assignment, before)


def _scheme_called(name: str, block_size: int, scale: str) -> Scheme:
    if name in VARIANTS and name not in OURS:
        raise QuantError(f"a checkpoint cannot be quantized to {name!r}: use one of {', '.join(OURS)}")
    check_variants([name], OURS)
    scheme = scheme_of(name, block_size, scale)
    assert scheme is not None
    return scheme


def plan_quantizing(source: Source, checkpoint: Checkpoint, skeleton: Any, assignment: Assignment) -> Plan:
    """What to make of `checkpoint`. skeleton: the model, on the meta device.

    Raises:
        QuantError: as `quantize_checkpoint`, for the model.
    """
    schemes = assignment.schemes
    dtypes = stored_dtypes(skeleton, checkpoint, source.dtype)
    jobs = plan_jobs(skeleton, checkpoint, schemes, dtypes)
    settings = {"scheme": counted(schemes), "dtype": dtype_name(source.dtype), "layers": list(schemes)}
    if len(set(schemes.values())) > 1:
        settings["schemes"] = [str(scheme) for scheme in schemes.values()]
    texts = {CONFIG: _config_text(source, schemes)}
    copies = files_to_copy(source.folder, source.trust_remote_code)
    return Plan(jobs, checkpoint.sharded, settings, texts, copies)


def plan_jobs(
    skeleton: Any, checkpoint: Checkpoint, schemes: Mapping[str, Scheme], dtypes: dict[str, torch.dtype]
) -> tuple[Job, ...]:
    """A job for every tensor of the checkpoint, in the order of its bytes. schemes: of the layers to quantize, by their
    names; dtypes: what each tensor is cast to.

    Raises:
        QuantError: a tensor that holds codes, by its dtype.
    """
    layers = {id(skeleton.get_submodule(name)): scheme for name, scheme in schemes.items()}
    weights = {
        f"{alias}.weight": (alias, layers[id(module)], is_transposed(module))
        for alias, module in skeleton.named_modules(remove_duplicate=False)
        if id(module) in layers
    }
    parameters = {name for name, _ in skeleton.named_parameters(remove_duplicate=False)}
    jobs = []
    for name, stored in checkpoint.tensors.items():
        if stored.dtype.is_floating_point and stored.dtype.itemsize == 1:
            raise QuantError(
                f"{stored} has the 8-bit dtype {dtype_name(stored.dtype)}, so it is quantized: pass floats"
            )
        if name not in weights:
            jobs.append(cast_job(stored, dtypes[name], finite=name in parameters))
            continue
        if not stored.dtype.is_floating_point:
            raise QuantError(
                f"{stored} has dtype {dtype_name(stored.dtype)}, so it is quantized: pass the float checkpoint"
            )
        layer, scheme, transposed = weights[name]
        jobs.append(quantize_job(stored, layer, scheme, dtypes[name], transposed))
    return tuple(jobs)


def _config_text(source: Source, schemes: Mapping[str, Scheme]) -> str:
    config = read_json(source.folder / CONFIG)
    config.pop("torch_dtype", None)  # the older name of the same
    config["dtype"] = dtype_name(source.dtype)
    config["quantization_config"] = our_config(schemes)
    return config_text(config)
