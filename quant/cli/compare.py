"""`quant compare`: the main job. Files are written at the end (`quant.report.files`); the places they go to are checked
before the work starts.
"""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from quant import native
from quant.cli.delivery import write_then_print
from quant.cli.options import (
    STDOUT,
    BatchSize,
    BlockSize,
    Bos,
    Dataset,
    Dtype,
    JsonFile,
    Model,
    Scale,
    Stride,
    Text,
    TrustRemoteCode,
    Window,
    check_choices,
    completing,
)
from quant.cli.progress import schemes_bar
from quant.compare import compare
from quant.errors import QuantError
from quant.evaluate.limits import check_positions
from quant.evaluate.processes import Processes, check_whole_models
from quant.integrations.transformers import load_tokenizer
from quant.records import Comparison, Request
from quant.report.files import check_targets, write_reports
from quant.report.json_file import comparison_json
from quant.report.markdown import to_markdown
from quant.report.tables import comparison_notes, comparison_tables
from quant.report.terminal import make_console, print_report
from quant.sources import check_window, cut_windows, open_source, read_text
from quant.variants import VARIANTS, check_variants

COMPARE_TOKENS = 32768
"""Of the embedded text's 106,793, so that a comparison of all schemes takes under three minutes on two cores."""

PROMPT_TOKENS = 64


def compare_command(
    context: typer.Context,
    model: Model = "reference",
    schemes: Annotated[
        str | None,
        typer.Option(
            help=f"Comma-separated, of: {', '.join(VARIANTS)}. Default: all.", autocompletion=completing(*VARIANTS)
        ),
    ] = None,
    block_size: BlockSize = 64,
    scale: Scale = "absmax",
    text: Text = None,
    dataset: Dataset = None,
    dtype: Dtype = "auto",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N, or auto to spread over devices.")] = "cpu",
    window: Window = None,
    stride: Stride = None,
    bos: Bos = "auto",
    max_tokens: Annotated[
        int | None, typer.Option(min=2, help="Use only so many tokens. Default: 32768 of the embedded text, else all.")
    ] = None,
    batch_size: BatchSize = None,
    new_tokens: Annotated[int, typer.Option(min=1, help="Tokens to generate for the timings.")] = 64,
    json_file: JsonFile = None,
    report: Annotated[
        Path | None, typer.Option(help="Write report.html, report.json and report.md into this folder.")
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """What does each quantization scheme do to a model: accuracy, size, speed and memory, in one run.

    Examples:
    * `quant compare`
    * `quant compare ./my-model --schemes w8a16,nf4 --text holdout.txt --json out.json`
    * `accelerate launch --num_processes 4 -m quant compare ./my-model --device cuda`
    """
    processes: Processes = context.obj

    def prepare() -> Request:
        if processes.size > 1:
            check_whole_models()
        native.variant()  # a wrong QUANT_CPU_KERNELS is told before anything is loaded
        names = None if schemes is None else tuple(name.strip() for name in schemes.split(",") if name.strip())
        if names is not None:
            check_variants(list(names))
        check_choices(dtype, block_size, bos, processes.device(device), scale)
        check_window(window, stride)
        if processes.main:
            check_targets(None if json_file == STDOUT else json_file, report)
        content = read_text(text, dataset)
        source = open_source(model, dtype, trust_remote_code)
        tokenizer = load_tokenizer(source.folder, trust_remote_code)
        embedded = text is None and dataset is None
        limit = COMPARE_TOKENS if max_tokens is None and embedded else max_tokens
        windows = cut_windows(source, tokenizer, content, window, stride, bos, limit)
        prompt_tokens = min(PROMPT_TOKENS, len(windows.ids))
        check_positions(source.config, prompt_tokens + new_tokens, f"--new-tokens {new_tokens}, with the prompt")
        return Request(
            model=model,
            folder=source.folder,
            dtype=source.dtype,
            windows=windows,
            tokenizer=tokenizer,
            device=device,
            batch_size=batch_size or max(1, 2048 // windows.window),
            prompt_tokens=prompt_tokens,
            new_tokens=new_tokens,
            schemes=names,
            block_size=block_size,
            scale=scale,
            trust_remote_code=trust_remote_code,
            command=shlex.join(["quant", *sys.argv[1:]]),
        )

    request = processes.together(prepare)
    with schemes_bar(processes.main) as watch:
        comparison = compare(request, watch, processes)
    if processes.main:
        _deliver(comparison, json_file, report)
        if schemes is not None:
            _check_made(comparison)


def _check_made(comparison: Comparison) -> None:
    """Raises:
    QuantError: a scheme that was asked for by name has no figures, which is easily overlooked in a table.
    """
    failed = [f"{result.scheme} ({result.error})" for result in comparison.results if result.error is not None]
    if failed:
        raise QuantError(f"not measured: {'; '.join(failed)}")


def _deliver(comparison: Comparison, json_file: Path | None, report: Path | None) -> None:
    """A figure that cannot be drawn costs `report.html`, and not the records and tables beside it."""
    record = comparison_json(comparison)
    tables, notes = comparison_tables(comparison), comparison_notes(comparison)

    def write() -> None:
        title = f"Quantizing {comparison.model}"
        contents = {} if report is None else {"report.json": record, "report.md": to_markdown(title, tables, notes)}
        try:
            if report is not None:
                contents["report.html"] = _page(comparison)
        finally:
            write_reports(None if json_file == STDOUT else json_file, report, record, contents)

    def show() -> None:
        if json_file == STDOUT:
            typer.echo(record, nl=False)
        else:
            print_report(make_console(), tables, notes)

    write_then_print(write, show)


def _page(comparison: Comparison) -> str:
    from quant.report.html import to_html  # noqa: PLC0415  # matplotlib and jinja2 take half a second to import

    return to_html(comparison)
