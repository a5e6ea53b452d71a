"""`quant inspect`: what a model is made of, from its configuration alone."""

from typing import Annotated

import typer

from quant.cli.options import OURS, BlockSize, Dtype, Model, TrustRemoteCode, check_choices
from quant.errors import QuantError
from quant.inspection import size_model
from quant.report.json_file import sizing_json
from quant.report.tables import sizing_notes, sizing_tables
from quant.report.terminal import make_console, print_report
from quant.sources import build_for_sizing
from quant.variants import check_variants


def inspect_command(
    model: Model = "reference",
    scheme: Annotated[
        str | None, typer.Option(help=f"Show the model after this scheme as well: {', '.join(OURS)}.")
    ] = None,
    block_size: BlockSize = 64,
    dtype: Dtype = "auto",
    json_output: Annotated[
        bool, typer.Option("--json", help="Print JSON with integer bytes instead of tables.")
    ] = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Layer types, memory by dtype and footprint, before and after a scheme. Needs no weights, only the model's config.

    Examples: `quant inspect phi-3-mini --scheme w8a16`, `quant inspect ./my-model --json`
    """
    check_choices(dtype, block_size)
    if scheme is not None:
        check_variants([scheme])
        if scheme not in OURS:
            raise QuantError(f"inspect cannot size {scheme!r} without loading it: use quant compare --schemes {scheme}")
    built, dtype_name = build_for_sizing(model, dtype, trust_remote_code)
    sizing = size_model(built, model, dtype_name, scheme, block_size)
    if json_output:
        typer.echo(sizing_json(sizing), nl=False)
    else:
        print_report(make_console(), sizing_tables(sizing), sizing_notes(sizing))
