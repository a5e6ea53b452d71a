"""Options that several commands take, and the checks of them that need no model."""

from typing import Annotated

import typer

from quant.integrations.transformers import check_bos_rule, check_device
from quant.sources import check_dtype_name
from quant.variants import scheme_of

Model = Annotated[str, typer.Argument(help="Local folder, hub id, `reference` (the embedded model) or `phi-3-mini`.")]
Dtype = Annotated[
    str, typer.Option(help="Of the unquantized model: auto (what its config says), float32, bfloat16 or float16.")
]
BlockSize = Annotated[int, typer.Option(help="Weights per absmax in nf4, nf4-dq, fp4 and int4: 32, 64, ..., 4096.")]
Scale = Annotated[
    str,
    typer.Option(
        help="Scales of our schemes: absmax (from the largest magnitude) or mse (searched for the least squared error)."
    ),
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the checkpoint.")
]


def check_choices(dtype: str, block_size: int, bos: str = "auto", device: str = "cpu", scale: str = "absmax") -> None:
    """What can be refused before a model or a dataset is looked for: it may be gigabytes away.

    Raises:
        QuantError: one is not among what it can be.
    """
    check_dtype_name(dtype)
    check_bos_rule(bos)
    check_device(device)
    scheme_of("nf4", block_size, scale)
