"""`quant quantize`: from MODEL and a scheme to a plan of the checkpoint, without building the model.

The model exists as a skeleton on the meta device only, made from its configuration. It says which tensors are weights
of linear layers, which of these to quantize (`quant.selection`, so include and exclude mean what they mean for
`quant.quantize`), and which dtype each tensor has in memory. All else is `quant.checkpoint`.

The folder that is made holds what `quant.quantize` and `save_pretrained` would have stored of the model that
`from_pretrained(dtype=...)` loads, in the same files as the input; `config.json` with the dtype and how it is
quantized; the tokenizer and other small files, copied. Pickles are never copied, Python code only if it is trusted.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from quant.checkpoint.folder import Checkpoint, open_checkpoint, read_json
from quant.checkpoint.manifest import MANIFEST, Watch
from quant.checkpoint.plan import Job, Plan
from quant.checkpoint.quantizing import cast_job, quantize_job
from quant.checkpoint.run import Outcome, check_out, run
from quant.errors import QuantError
from quant.integrations.skeleton import first_float_dtype, quantization_config, stored_dtypes
from quant.integrations.transformers import build_on_meta
from quant.linears import is_transposed
from quant.schemes import Scheme
from quant.selection import Selection, select
from quant.sources import Source, open_source
from quant.variants import included_by, scheme_of

CONFIG = "config.json"
SMALL_FILES = ("*.json", "*.model", "*.txt", "*.jinja")
CODE_FILES = ("*.py",)


@dataclass(frozen=True)
class Quantized:
    """What was made.

    Attributes:
        outcome: of the run.
        dtype: of what was left in float, by name.
        selection: the layers that were quantized and left.
        bytes_before: of the checkpoint's safetensors files.
    """

    outcome: Outcome
    dtype: str
    selection: Selection
    bytes_before: int


def quantize_checkpoint(
    model: str,
    out: Path,
    name: str,
    block_size: int = 64,
    dtype: str = "auto",
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    trust_remote_code: bool = False,
    restart: bool = False,
    watch: Watch = lambda done, total: None,
) -> Quantized:
    """Quantize the checkpoint MODEL into the folder `out`.

    Args:
        model: local folder, hub id, `reference` or `phi-3-mini`.
        name: of the scheme: one of `quant.schemes.SCHEMES`, or `w8a16-full`.
        include, exclude: globs as for `quant.quantize`; none is all.

    Raises:
        QuantError: see `quant.checkpoint.run`; no such model, one that cannot be quantized, or files that do not fit.
    """
    check_out(out)
    source = open_source(model, dtype, trust_remote_code)
    checkpoint = open_checkpoint(source.folder)
    if dtype == "auto" and getattr(source.config, "dtype", None) is None:
        source = replace(source, dtype=first_float_dtype(checkpoint))
    plan, selection = plan_quantizing(source, checkpoint, name, block_size, tuple(include), tuple(exclude))
    outcome = run(plan, checkpoint, out, restart, watch)
    before = sum(header.size for header in checkpoint.files.values())
    return Quantized(outcome, _short(source.dtype), selection, before)


def plan_quantizing(
    source: Source,
    checkpoint: Checkpoint,
    name: str,
    block_size: int,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
) -> tuple[Plan, Selection]:
    """What to make of `checkpoint`, and which layers are quantized.

    Raises:
        QuantError: as `quantize_checkpoint`, for the model.
    """
    scheme = scheme_of(name, block_size)
    assert scheme is not None
    skeleton = build_on_meta(source.config, source.dtype, source.trust_remote_code)
    selection = select(skeleton, included_by(name, skeleton, include), exclude)
    dtypes = stored_dtypes(skeleton, checkpoint, source.dtype)
    jobs = plan_jobs(skeleton, checkpoint, selection, scheme, dtypes)
    settings = {
        "scheme": str(scheme),
        "dtype": _short(source.dtype),
        "layers": list(selection.chosen),
    }
    texts = {CONFIG: _config_text(source, scheme, selection)}
    return Plan(jobs, checkpoint.sharded, settings, texts, small_files(source)), selection


def plan_jobs(
    skeleton: Any, checkpoint: Checkpoint, selection: Selection, scheme: Scheme, dtypes: dict[str, torch.dtype]
) -> tuple[Job, ...]:
    """A job for every tensor of the checkpoint, in the order of its bytes. dtypes: what each is cast to.

    Raises:
        QuantError: a tensor that holds codes, by its dtype.
    """
    layers = {id(skeleton.get_submodule(name)) for name in selection.chosen}
    weights = {
        f"{alias}.weight": (alias, is_transposed(module))
        for alias, module in skeleton.named_modules(remove_duplicate=False)
        if id(module) in layers
    }
    jobs = []
    for name, stored in checkpoint.tensors.items():
        if stored.dtype.is_floating_point and stored.dtype.itemsize == 1:
            raise QuantError(f"{stored} has the 8-bit dtype {_short(stored.dtype)}, so it is quantized: pass floats")
        if name not in weights:
            jobs.append(cast_job(stored, dtypes[name]))
            continue
        if not stored.dtype.is_floating_point:
            raise QuantError(
                f"{stored} has dtype {_short(stored.dtype)}, so it is quantized: pass the float checkpoint"
            )
        layer, transposed = weights[name]
        jobs.append(quantize_job(stored, layer, scheme, dtypes[name], transposed))
    return tuple(jobs)


def _config_text(source: Source, scheme: Scheme, selection: Selection) -> str:
    config = read_json(source.folder / CONFIG)
    config.pop("torch_dtype", None)  # the older name of the same
    config["dtype"] = _short(source.dtype)
    config["quantization_config"] = quantization_config(scheme, selection.chosen)
    return json.dumps(config, indent=2, ensure_ascii=False) + "\n"


def small_files(source: Source) -> dict[str, Path]:
    """The small files to copy: name -> file. Not the configuration, indexes and manifests, which are made anew."""
    patterns = SMALL_FILES + (CODE_FILES if source.trust_remote_code else ())
    paths = sorted(path for pattern in patterns for path in source.folder.glob(pattern) if path.is_file())
    made = (CONFIG, MANIFEST)
    return {path.name: path for path in paths if path.name not in made and not path.name.endswith(".index.json")}


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
