"""`quant quantize`: checkpoint to checkpoint, in bounded memory."""

from pathlib import Path
from typing import Annotated

import typer

from quant import native
from quant.checkpoint_quantization import QuantizedCheckpoint, quantize_checkpoint
from quant.cli.options import BlockSize, Dtype, Model, Scale, TrustRemoteCode
from quant.cli.progress import bytes_bar
from quant.variants import OURS


def quantize_command(
    model: Model,
    out: Annotated[Path, typer.Argument(help="Folder to make; refused where it exists and is not empty.")],
    scheme: Annotated[str, typer.Option(help=f"One of: {', '.join(OURS)}.")],
    block_size: BlockSize = 64,
    scale: Scale = "absmax",
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

    Examples: `quant quantize ./my-model ./my-model-nf4 --scheme nf4`, `quant quantize org/name out --scheme w8a16`
    """
    native.variant()  # a wrong QUANT_CPU_KERNELS is told before anything is read
    with bytes_bar(scheme) as watch:
        made = quantize_checkpoint(
            model,
            out,
            scheme,
            block_size=block_size,
            scale=scale,
            dtype=dtype,
            include=include or (),
            exclude=exclude or (),
            trust_remote_code=trust_remote_code,
            restart=restart,
            watch=watch,
        )
    _tell(out, scheme, made)


def _tell(out: Path, scheme: str, made: QuantizedCheckpoint) -> None:
    selection, outcome = made.selection, made.outcome
    if outcome.kept:
        typer.echo(f"resumed: {outcome.kept} of {outcome.tensors} tensors were finished before, and are intact")
    typer.echo(
        f"{out}: {scheme}, {len(selection.chosen)} of {len(selection.chosen) + len(selection.left)} linear layers "
        f"quantized, the rest in {made.dtype}; {made.bytes_before:,} -> {outcome.nbytes:,} bytes"
    )
    for name, reason in selection.left.items():
        typer.echo(f"  left {name}: {reason}")
