"""`quant convert`: a quantized checkpoint into bitsandbytes' format, or out of it."""

from pathlib import Path
from typing import Annotated

import typer

from quant.checkpoint_conversion import FORMATS, convert_checkpoint
from quant.cli.options import TrustRemoteCode, completing
from quant.cli.progress import bytes_bar


def convert_command(
    model: Annotated[str, typer.Argument(help="Local folder or hub id of a quantized checkpoint.")],
    out: Annotated[Path, typer.Argument(help="Folder to make; refused where it exists and is not empty.")],
    to: Annotated[
        str, typer.Option(help=f"The other format: {' or '.join(FORMATS)}.", autocompletion=completing(*FORMATS))
    ],
    restart: Annotated[
        bool, typer.Option("--restart", help="Discard what an interrupted run left in OUT.partial.")
    ] = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Convert an NF4 or FP4 checkpoint of bitsandbytes to this library's format or back: the same weights to the bit.

    OUT appears when it is complete. An interrupted run leaves OUT.partial, which the same command takes up.

    Examples:
    * `quant convert org/name-bnb-4bit ./ours --to quant`
    * `quant convert ./ours ./theirs --to bitsandbytes`
    """
    with bytes_bar(f"to {to}") as watch:
        made = convert_checkpoint(model, out, to, trust_remote_code, restart, watch)
    outcome = made.outcome
    if outcome.kept:
        typer.echo(f"resumed: {outcome.kept} of {outcome.tensors} tensors were finished before, and are intact")
    typer.echo(f"{out}: {len(made.layers)} layers of {made.scheme} for {to}, {outcome.nbytes:,} bytes")
