"""`quant compare`: the main job. Files are written at the end (`quant.report.files`); the places they go to are checked
before the work starts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from quant import native
from quant.cli.options import BlockSize, Dtype, Model, Scale, TrustRemoteCode, check_choices
from quant.compare import Watch, compare
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

EMBEDDED_TEXT_TOKENS = 32768
"""Of the embedded text's 106,793, so that a comparison of all schemes takes under three minutes on two cores."""

PROMPT_TOKENS = 64
STDOUT = Path("-")


def compare_command(
    context: typer.Context,
    model: Model = "reference",
    schemes: Annotated[
        str | None, typer.Option(help=f"Comma-separated, of: {', '.join(VARIANTS)}. Default: all.")
    ] = None,
    block_size: BlockSize = 64,
    scale: Scale = "absmax",
    text: Annotated[
        Path | None, typer.Option(help="UTF-8 text to measure on. Default: the embedded held-out text.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Hub dataset to measure on, as ID[:CONFIG[:SPLIT]].")] = None,
    dtype: Dtype = "auto",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N, or auto to spread over devices.")] = "cpu",
    window: Annotated[
        int | None, typer.Option(min=1, help="Tokens per window. Default: 256 for reference, else up to 2048.")
    ] = None,
    stride: Annotated[int | None, typer.Option(min=1, help="Distance of window starts. Default: the window.")] = None,
    bos: Annotated[
        str, typer.Option(help="BOS before each window: auto (as the tokenizer does), always or never.")
    ] = "auto",
    max_tokens: Annotated[
        int | None, typer.Option(min=2, help="Use only so many tokens. Default: 32768 of the embedded text, else all.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Windows per call. Default: about 2048 tokens' worth.")
    ] = None,
    new_tokens: Annotated[int, typer.Option(min=1, help="Tokens to generate for the timings.")] = 64,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the records to this file; - prints them instead of tables.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write report.md and report.json into this folder.")] = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """What does each quantization scheme do to a model: accuracy, size, speed and memory, in one run.

    Examples: `quant compare`, `quant compare ./my-model --schemes w8a16,nf4 --text holdout.txt --json out.json`,
    `accelerate launch --num_processes 4 -m quant compare ./my-model --device cuda`
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
        limit = EMBEDDED_TEXT_TOKENS if max_tokens is None and embedded else max_tokens
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
        )

    request = processes.together(prepare)
    with _progress(processes.main) as watch:
        comparison = compare(request, watch, processes)
    if processes.main:
        _deliver(comparison, json_file, report)


def _deliver(comparison: Comparison, json_file: Path | None, report: Path | None) -> None:
    """Write the files, then print: a reader that closes the pipe must not cost the files."""
    tables, notes = comparison_tables(comparison), comparison_notes(comparison)
    record = comparison_json(comparison)
    document = to_markdown(f"Quantizing {comparison.model}", tables, notes)
    write_reports(None if json_file == STDOUT else json_file, report, record, document)
    if json_file == STDOUT:
        typer.echo(record, nl=False)
    else:
        print_report(make_console(), tables, notes)


@contextmanager
def _progress(shown: bool) -> Iterator[Watch]:
    """A bar on stderr; nothing where it is not to be shown or stderr is not a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal)) as progress:
        schemes = progress.add_task("schemes")
        inner = progress.add_task("loading")

        def watch(what: str, done: int, total: int) -> None:
            if ":" not in what:
                progress.update(schemes, completed=done, total=total)
                progress.reset(
                    inner, description=f"{what}: loading and generating" if what in VARIANTS else what, total=None
                )
            else:
                progress.update(inner, description=what, completed=done, total=total)

        yield watch
