"""`quant inspect`: what a model is made of, from its configuration alone; what a quantized folder stores, from its
headers; and whether that is still what was written.
"""

from pathlib import Path
from typing import Annotated

import typer

from quant.checkpoint.manifest import verify
from quant.checkpoint.summary import summarize
from quant.cli.options import BlockSize, Dtype, Model, TrustRemoteCode, check_choices, completing
from quant.cli.progress import bytes_bar
from quant.errors import QuantError
from quant.inspection import size_model
from quant.report.json_file import sizing_json, summary_json
from quant.report.tables import sizing_notes, sizing_tables, summary_notes, summary_tables
from quant.report.terminal import make_console, print_report
from quant.sources import build_for_sizing
from quant.variants import OURS, VARIANTS, check_variants


def inspect_command(
    model: Model = "reference",
    scheme: Annotated[
        str | None,
        typer.Option(
            help=f"Show the model after this scheme as well: {', '.join(OURS)}.", autocompletion=completing(*OURS)
        ),
    ] = None,
    block_size: BlockSize = 64,
    dtype: Dtype = "auto",
    json_output: Annotated[
        bool, typer.Option("--json", help="Print JSON with integer bytes instead of tables.")
    ] = False,
    verify_files: Annotated[
        bool, typer.Option("--verify", help="Read a folder that quant wrote, and prove every file and tensor intact.")
    ] = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Layer types, memory by dtype and footprint, before and after a scheme. Needs no weights, only the model's config.

    Of a folder that quant quantize wrote: what it stores. With --verify, whether every byte is still what was written:
    a file or tensor that differs is named, and the exit code is 2.

    Examples:
    * `quant inspect phi-3-mini --scheme w8a16`
    * `quant inspect ./my-model --json`
    * `quant inspect ./my-model-nf4 --verify`
    """
    check_choices(dtype, block_size)
    if scheme is not None:
        if scheme in VARIANTS and scheme not in OURS:
            raise QuantError(f"inspect cannot size {scheme!r} without loading it: use quant compare --schemes {scheme}")
        check_variants([scheme], OURS)
    if verify_files:
        if scheme is not None or json_output:
            raise QuantError("--verify answers one question and takes neither --scheme nor --json: ask again without")
        _verify(Path(model))
        return
    summary = summarize(Path(model)) if scheme is None and dtype == "auto" else None
    if summary is not None:
        if json_output:
            typer.echo(summary_json(model, summary), nl=False)
        else:
            print_report(make_console(), summary_tables(summary), summary_notes(model, summary))
        return
    built, dtype_name = build_for_sizing(model, dtype, trust_remote_code)
    sizing = size_model(built, model, dtype_name, scheme, block_size)
    if json_output:
        typer.echo(sizing_json(sizing), nl=False)
    else:
        print_report(make_console(), sizing_tables(sizing), sizing_notes(sizing))


def _verify(folder: Path) -> None:
    with bytes_bar("verifying") as watch:
        verified = verify(folder, watch)
    typer.echo(
        f"{folder}: intact, {verified.files} files, {verified.tensors} tensors in them, {verified.nbytes:,} bytes, as "
        f"{verified.made_by} wrote them"
    )
