"""Options that several commands take, and the checks of them that need no model."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from quant.dtypes import MODEL_DTYPES
from quant.errors import QuantError
from quant.integrations.transformers import check_bos_rule, check_device
from quant.schemes import SCALES
from quant.sources import check_dtype_name
from quant.variants import scheme_of

STDOUT = Path("-")
"""What `--json -` names."""


def completing(*names: str) -> Callable[[str], list[str]]:
    """Completes a value, or the last one of several with commas between."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in names if name.startswith(last)]

    return complete


BLOCK_SIZE = typer.Option(help="Weights per absmax in nf4, nf4-dq, fp4 and int4: 32, 64 (default), ..., 4096.")
SCALE = typer.Option(
    help="Scales of our schemes: absmax (from the largest magnitude) or mse (searched for the least squared error).",
    autocompletion=completing(*SCALES),
)
Model = Annotated[str, typer.Argument(help="Local folder, hub id, `reference` (the embedded model) or `phi-3-mini`.")]
Dtype = Annotated[
    str,
    typer.Option(
        help="Of the unquantized model: auto (what its config says), float32, bfloat16 or float16.",
        autocompletion=completing("auto", *MODEL_DTYPES),
    ),
]
BlockSize = Annotated[int, BLOCK_SIZE]
Scale = Annotated[str, SCALE]
Text = Annotated[Path | None, typer.Option(help="UTF-8 text to measure on. Default: the embedded held-out text.")]
Dataset = Annotated[str | None, typer.Option(help="Hub dataset to measure on, as ID[:CONFIG[:SPLIT]].")]
Window = Annotated[
    int | None, typer.Option(min=1, help="Tokens per window. Default: 256 for reference, else up to 2048.")
]
Stride = Annotated[int | None, typer.Option(min=1, help="Distance of window starts. Default: the window.")]
Bos = Annotated[
    str,
    typer.Option(
        help="BOS before each window: auto (as the tokenizer does), always or never.",
        autocompletion=completing("auto", "always", "never"),
    ),
]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Windows per call. Default: about 2048 tokens' worth.")]
JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Write the records to this file; - prints them instead of tables.")
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


def parse_fraction(option: str, text: str) -> float:
    """0.2 of "20%", and of "0.2".

    Raises:
        QuantError: it is no finite number; the message begins with `option`.
    """
    number = text.strip()
    try:
        value = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise QuantError(f"{option} {text!r} is no part of the whole: write it as in 20% or 0.2")
    return value
