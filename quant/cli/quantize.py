"""`quant quantize`: checkpoint to checkpoint, in bounded memory."""

from pathlib import Path
from typing import Annotated

import typer

from quant import native
from quant.checkpoint_quantization import QuantizedCheckpoint, quantize_checkpoint
from quant.cli.options import BLOCK_SIZE, SCALE, Dtype, Model, TrustRemoteCode, completing
from quant.cli.progress import bytes_bar
from quant.convert import counted
from quant.errors import QuantError
from quant.mixed_precision import MixedPrecision
from quant.variants import OURS


def quantize_command(
    model: Model,
    out: Annotated[Path, typer.Argument(help="Folder to make; refused where it exists and is not empty.")],
    scheme: Annotated[
        str | None, typer.Option(help=f"One of: {', '.join(OURS)}.", autocompletion=completing(*OURS))
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(help="Mixed precision: the JSON file of quant sensitivity, instead of scheme, blocks and globs."),
    ] = None,
    block_size: Annotated[int | None, BLOCK_SIZE] = None,
    scale: Annotated[str | None, SCALE] = None,
    dtype: Dtype = "auto",
    include: Annotated[
        list[str] | None, typer.Option(help="Glob of layers to quantize, on the whole name; repeatable. Default: all.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Glob of layers to leave in float, besides head and tied ones; repeatable.")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Discard what an interrupted run left in OUT.partial.")
    ] = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Quantize a checkpoint on disk: safetensors in, safetensors out, tensor by tensor, without loading the model.

    OUT appears when it is complete. An interrupted run leaves OUT.partial, which the same command takes up.

    Examples:
    * `quant quantize ./my-model ./my-model-nf4 --scheme nf4`
    * `quant quantize org/name out --scheme w8a16`
    * `quant quantize ./my-model out --plan plan.json`
    """
    native.variant()  # a wrong QUANT_CPU_KERNELS is told before anything is read
    if plan is not None and any(choice is not None for choice in (scheme, block_size, scale, include, exclude)):
        raise QuantError("--plan says what becomes of every layer: pass it without --scheme, its options and globs")
    if plan is None and scheme is None:
        raise QuantError("pass --scheme, or --plan for mixed precision: see quant quantize --help")
    name = MixedPrecision.read(plan) if plan is not None else str(scheme)
    label = scheme or "mixed precision"
    with bytes_bar(label) as watch:
        made = quantize_checkpoint(
            model,
            out,
            name,
            block_size=64 if block_size is None else block_size,
            scale=scale or "absmax",
            dtype=dtype,
            include=include or (),
            exclude=exclude or (),
            trust_remote_code=trust_remote_code,
            restart=restart,
            watch=watch,
        )
    _tell(out, label, made)


def _tell(out: Path, label: str, made: QuantizedCheckpoint) -> None:
    schemes, left, outcome = made.assignment.schemes, made.assignment.left, made.outcome
    several = f" ({counted(schemes)})" if len(set(schemes.values())) > 1 else ""
    if outcome.kept:
        typer.echo(f"resumed: {outcome.kept} of {outcome.tensors} tensors were finished before, and are intact")
    typer.echo(
        f"{out}: {label}, {len(schemes)} of {len(schemes) + len(left)} linear layers quantized{several}, the rest in "
        f"{made.dtype}; {made.bytes_before:,} -> {outcome.nbytes:,} bytes"
    )
    for name, reason in left.items():
        typer.echo(f"  left {name}: {reason}")
