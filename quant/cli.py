"""The command line, `quant` and `python -m quant`: parses, calls, prints. Bad input is one line on stderr and exit
code 2.

What can be refused without a model is refused before one is looked for. Files are written at the end
(`quant.report.files`); the places they go to are checked before the work starts.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from quant import __version__, native
from quant.compare import Comparison, Request, Watch, compare
from quant.errors import QuantError
from quant.evaluate.limits import check_positions
from quant.inspection import size_model
from quant.integrations.transformers import check_bos_rule, check_device, load_tokenizer
from quant.report.files import check_targets, write_reports
from quant.report.json_file import comparison_json, sizing_json
from quant.report.markdown import to_markdown
from quant.report.tables import comparison_notes, comparison_tables, sizing_notes, sizing_tables
from quant.report.terminal import make_console, print_report
from quant.schemes import NF4
from quant.sources import build_for_sizing, check_dtype_name, check_window, cut_windows, open_source, read_text
from quant.variants import VARIANTS, check_variants, scheme_of

app = typer.Typer(pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]})
USAGE_ERROR: Any = typer.BadParameter.__base__
"""click's UsageError, of whichever click this typer brings with it: everything that its parser refuses."""

EMBEDDED_TEXT_TOKENS = 32768
"""Of the embedded text's 106,793, so that a comparison of all schemes takes under three minutes on two cores."""

PROMPT_TOKENS = 64
STDOUT = Path("-")
SIZED = tuple(name for name in VARIANTS if scheme_of(name) is not None)
"""The schemes that need no weights to be sized: ours."""

Model = Annotated[str, typer.Argument(help="Local folder, hub id, `reference` (the embedded model) or `phi-3-mini`.")]
Dtype = Annotated[
    str, typer.Option(help="Of the unquantized model: auto (what its config says), float32, bfloat16 or float16.")
]
BlockSize = Annotated[int, typer.Option(help="Weights per absmax in nf4, nf4-dq, fp4 and int4: 32, 64, ..., 4096.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the checkpoint.")
]


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Quantize language models, and measure what that does to them."""
    if version:
        typer.echo(f"quant {__version__}")
        raise typer.Exit()
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


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

    Examples: `quant compare`, `quant compare ./my-model --schemes w8a16,nf4 --text holdout.txt --json out.json`
    """
    native.variant()  # a wrong QUANT_CPU_KERNELS is told before anything is loaded
    names = None if schemes is None else tuple(name.strip() for name in schemes.split(",") if name.strip())
    if names is not None:
        check_variants(list(names))
    _check_choices(dtype, bos, device, block_size)
    check_window(window, stride)
    check_targets(None if json_file == STDOUT else json_file, report)
    content = read_text(text, dataset)
    source = open_source(model, dtype, trust_remote_code)
    tokenizer = load_tokenizer(source.folder, trust_remote_code)
    if max_tokens is None and text is None and dataset is None:
        max_tokens = EMBEDDED_TEXT_TOKENS
    windows = cut_windows(source, tokenizer, content, window, stride, bos, max_tokens)
    prompt_tokens = min(PROMPT_TOKENS, len(windows.ids))
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
    _deliver(comparison, json_file, report)


@app.command("inspect")
def inspect_command(
    model: Model = "reference",
    scheme: Annotated[
        str | None, typer.Option(help=f"Show the model after this scheme as well: {', '.join(SIZED)}.")
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
    _check_choices(dtype, "auto", "cpu", block_size)
    if scheme is not None:
        check_variants([scheme])
        if scheme not in SIZED:
            raise QuantError(f"inspect cannot size {scheme!r} without loading it: use quant compare --schemes {scheme}")
    built, dtype_name = build_for_sizing(model, dtype, trust_remote_code)
    sizing = size_model(built, model, dtype_name, scheme, block_size)
    if json_output:
        typer.echo(sizing_json(sizing), nl=False)
    else:
        print_report(make_console(), sizing_tables(sizing), sizing_notes(sizing))


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


def _check_choices(dtype: str, bos: str, device: str, block_size: int) -> None:
    """What can be refused before a model or a dataset is looked for: it may be gigabytes away."""
    check_dtype_name(dtype)
    check_bos_rule(bos)
    check_device(device)
    NF4(block_size=block_size)


def main() -> None:
    """Entry point of the console script."""
    try:
        code = app(standalone_mode=False, prog_name="quant")
    except QuantError as error:
        _refuse(str(error))
    except USAGE_ERROR as error:
        _refuse(f"{error.format_message().rstrip('.')}: see {error.ctx.command_path if error.ctx else 'quant'} --help")
    except typer.Abort:
        raise SystemExit(130) from None
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            raise
        raise SystemExit(1) from None
    raise SystemExit(code if isinstance(code, int) else 0)


def _refuse(message: str) -> NoReturn:
    sys.stderr.write(f"quant: {' '.join(message.split())}\n")
    raise SystemExit(2) from None
