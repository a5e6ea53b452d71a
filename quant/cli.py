"""The command line, `quant` and `python -m quant`: parses, calls, prints. Bad input is one line on stderr and exit
code 2.

Files are written at the end and by renaming, so a failed run leaves none; the folder they go to is checked before the
work starts.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from quant import __version__
from quant.compare import Comparison, Request, Watch, compare
from quant.errors import QuantError
from quant.evaluate.limits import check_positions
from quant.inspection import size_model
from quant.integrations.transformers import load_tokenizer
from quant.report.json_file import comparison_json, sizing_json
from quant.report.markdown import to_markdown
from quant.report.tables import comparison_notes, comparison_tables, sizing_notes, sizing_tables
from quant.report.terminal import make_console, print_report
from quant.schemes import NF4
from quant.sources import build_for_sizing, cut_windows, open_source, read_text
from quant.variants import VARIANTS, check_variants, scheme_of

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]}
)

EMBEDDED_TEXT_TOKENS = 32768
"""Of the embedded text's 106,793, so that a comparison of all schemes takes under three minutes on two cores."""

PROMPT_TOKENS = 64

Model = Annotated[str, typer.Argument(help="Local folder, hub id, `reference` (the embedded model) or `phi-3-mini`.")]
Dtype = Annotated[
    str, typer.Option(help="Of the unquantized model: auto (what its config says), float32, bfloat16 or float16.")
]
BlockSize = Annotated[int, typer.Option(help="Weights per absmax in nf4, nf4-dq, fp4 and int4: 32, 64, ..., 4096.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the checkpoint.")
]


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Quantize language models, and measure what that does to them."""
    if version:
        typer.echo(f"quant {__version__}")
        raise typer.Exit()


@app.command("compare")
def compare_command(
    model: Model = "reference",
    schemes: Annotated[
        str | None, typer.Option(help=f"Comma-separated, of: {', '.join(VARIANTS)}. Default: all.")
    ] = None,
    block_size: BlockSize = 64,
    text: Annotated[
        Path | None, typer.Option(help="UTF-8 text to measure on. Default: the embedded held-out text.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Hub dataset to measure on, as ID[:CONFIG[:SPLIT]].")] = None,
    dtype: Dtype = "auto",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N, or auto to spread over devices.")] = "cpu",
    window: Annotated[
        int | None, typer.Option(help="Tokens per window. Default: 256 for reference, else up to 2048.")
    ] = None,
    stride: Annotated[int | None, typer.Option(help="Distance of window starts. Default: the window.")] = None,
    bos: Annotated[
        str, typer.Option(help="BOS before each window: auto (as the tokenizer does), always or never.")
    ] = "auto",
    max_tokens: Annotated[
        int | None, typer.Option(help="Use only so many tokens. Default: 32768 of the embedded text, else all.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Windows per call. Default: about 2048 tokens' worth.")] = None,
    new_tokens: Annotated[int, typer.Option(help="Tokens to generate for the timings.")] = 64,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the records to this file.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write report.md and report.json into this folder.")] = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """What does each quantization scheme do to a model: accuracy, size, speed and memory, in one run.

    Examples: `quant compare`, `quant compare ./my-model --schemes w8a16,nf4 --text holdout.txt --json out.json`
    """
    names = None if schemes is None else tuple(name.strip() for name in schemes.split(",") if name.strip())
    if names is not None:
        check_variants(list(names))
    NF4(block_size=block_size)
    _check_outputs(json_file, report)
    content = read_text(text, dataset)
    source = open_source(model, dtype, trust_remote_code)
    tokenizer = load_tokenizer(source.folder, trust_remote_code)
    if max_tokens is None and text is None and dataset is None:
        max_tokens = EMBEDDED_TEXT_TOKENS
    windows = cut_windows(source, tokenizer, content, window, stride, bos, max_tokens)
    if batch_size is not None and batch_size < 1:
        raise QuantError(f"--batch-size {batch_size}: use at least 1")
    prompt_tokens = min(PROMPT_TOKENS, len(windows.ids))
    if new_tokens < 2:
        raise QuantError(f"--new-tokens {new_tokens}: timing a decode step takes at least 2 new tokens")
    check_positions(source.config, prompt_tokens + new_tokens, f"--new-tokens {new_tokens}, with the prompt")
    request = Request(
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
        trust_remote_code=trust_remote_code,
    )
    with _progress() as watch:
        comparison = compare(request, watch)
    tables, notes = comparison_tables(comparison), comparison_notes(comparison)
    # Before printing: a reader that closes the pipe must not cost the files.
    _write_outputs(comparison, json_file, report, to_markdown(f"Quantizing {model}", tables, notes))
    print_report(make_console(), tables, notes)


@app.command("inspect")
def inspect_command(
    model: Model = "reference",
    scheme: Annotated[str | None, typer.Option(help="Show the model after this scheme as well.")] = None,
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
    if scheme is not None:
        check_variants([scheme])
        if scheme_of(scheme, block_size) is None:
            raise QuantError(f"inspect cannot size {scheme!r} without loading it: use quant compare --schemes {scheme}")
    built, dtype_name = build_for_sizing(model, dtype, trust_remote_code)
    sizing = size_model(built, model, dtype_name, scheme, block_size)
    if json_output:
        typer.echo(sizing_json(sizing), nl=False)
    else:
        print_report(make_console(), sizing_tables(sizing), sizing_notes(sizing))


@contextmanager
def _progress() -> Iterator[Watch]:
    """A bar on stderr; nothing where stderr is not a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
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


def _check_outputs(json_file: Path | None, report: Path | None) -> None:
    for option, path in (("--json", json_file), ("--report", report)):
        if path is not None and not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
            raise QuantError(f"{option} {path}: the folder {path.parent} does not exist or cannot be written to")
    if json_file is not None and json_file.is_dir():
        raise QuantError(f"--json {json_file} is a folder: name a file")
    if report is not None and report.exists() and not report.is_dir():
        raise QuantError(f"--report {report} is a file: name a folder")


def _write_outputs(comparison: Comparison, json_file: Path | None, report: Path | None, markdown: str) -> None:
    if json_file is not None:
        _write(json_file, comparison_json(comparison))
    if report is not None:
        report.mkdir(exist_ok=True)
        _write(report / "report.json", comparison_json(comparison))
        _write(report / "report.md", markdown)


def _write(path: Path, content: str) -> None:
    if path.exists() and not path.is_file():  # a pipe or a device is written to, not replaced
        path.write_text(content, encoding="utf-8")
        return
    path = path.resolve()  # a link is followed, not replaced
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def main() -> None:
    """Entry point of the console script."""
    try:
        app()
    except QuantError as error:
        sys.stderr.write(f"quant: {' '.join(str(error).split())}\n")
        raise SystemExit(2) from None
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            raise
        raise SystemExit(1) from None
