"""`quant sensitivity`: which layers cost the most accuracy, and the smallest mixed precision within a budget.

With a budget, layers are measured and the plan is chosen on the first half of the windows, and held to the other half.
Files are written at the end; the places they go to are checked before the work starts.
"""

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
    parse_fraction,
)
from quant.cli.progress import measurements_bar
from quant.errors import QuantError
from quant.evaluate.divergence import LIMIT_BYTES
from quant.evaluate.processes import Processes
from quant.integrations.transformers import build_on_meta, load_tokenizer, quiet_transformers
from quant.report.files import check_different, check_file, write_files
from quant.report.sensitivity import (
    no_plan,
    proposal_notes,
    proposal_table,
    sensitivity_json,
    sensitivity_notes,
    sensitivity_tables,
)
from quant.report.terminal import make_console, print_report
from quant.schemes import SCHEMES, Scheme
from quant.selection import select
from quant.sensitivity import Sensitivities, check_logits, kept_baseline, measure_sensitivities, most_scored
from quant.sensitivity.proposal import Proposal, check_budget, check_windows, propose
from quant.sources import Source, check_window, cut_windows, open_source, read_text
from quant.variants import BASELINE, check_variants, load_variant, scheme_of

SENSITIVITY_TOKENS = 24577
"""Of the embedded text's 106,793, so that one scheme, 30 runs over the text, takes about two minutes on two cores: 200
CPU seconds, by 132 measured for 16,385.
"""
FIGURE_FORMATS = (".png", ".svg")
DEFAULT, DEFAULT_WITH_BUDGET = "nf4", "nf4,w8a16"


def sensitivity_command(
    context: typer.Context,
    model: Model = "reference",
    schemes: Annotated[
        str | None,
        typer.Option(
            help=f"Comma-separated, of: {', '.join(SCHEMES)}. Default: nf4, with --budget nf4,w8a16.",
            autocompletion=completing(*SCHEMES),
        ),
    ] = None,
    block_size: BlockSize = 64,
    scale: Scale = "absmax",
    include: Annotated[
        list[str] | None, typer.Option(help="Glob of layers to measure, on the whole name; repeatable. Default: all.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Glob of layers to leave, besides head and tied ones; repeatable.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Find the smallest plan that costs at most so much perplexity: 1% or 0.01.")
    ] = None,
    plan: Annotated[Path | None, typer.Option(help="Write that plan to this file, for quant quantize --plan.")] = None,
    text: Text = None,
    dataset: Dataset = None,
    dtype: Dtype = "auto",
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    window: Window = None,
    stride: Stride = None,
    bos: Bos = "auto",
    max_tokens: Annotated[
        int | None,
        typer.Option(min=2, help="Use only so many tokens. Default: 24577 of the embedded text or what fits."),
    ] = None,
    batch_size: BatchSize = None,
    json_file: JsonFile = None,
    figure: Annotated[Path | None, typer.Option(help="Draw the layers into this file, .svg or .png.")] = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Which layers cost the most accuracy: each layer, and each kind of layer, quantized alone and measured.

    With --budget: the smallest mix of the schemes and float, chosen on the first half of the text and measured on
    the other half to cost at most so much; exit code 1 where none is found.

    Examples:
    * `quant sensitivity`
    * `quant sensitivity ./my-model --schemes nf4,w8a16 --figure layers.svg`
    * `quant sensitivity --include '*' --include lm_head --budget 1% --plan plan.json`
    """
    native.variant()  # a wrong QUANT_CPU_KERNELS is told before anything is loaded
    asked = (DEFAULT if budget is None else DEFAULT_WITH_BUDGET) if schemes is None else schemes
    chosen = _schemes(asked, block_size, scale)
    allowed = None if budget is None else _budget(budget)
    processes: Processes = context.obj
    _check_device(device)
    check_choices(dtype, block_size, bos, processes.device(device), scale)
    check_window(window, stride)
    _check_targets(json_file, figure, plan, allowed)
    content = read_text(text, dataset)
    source = open_source(model, dtype, trust_remote_code)
    tokenizer = load_tokenizer(source.folder, trust_remote_code)
    limit = _default_tokens(source) if max_tokens is None and text is None and dataset is None else max_tokens
    windows = cut_windows(source, tokenizer, content, window, stride, bos, limit)
    check_logits(source.config, source.dtype, windows.scored, LIMIT_BYTES)
    parts = (windows,) if allowed is None else windows.halves()
    if allowed is not None:
        check_windows(min(parts, key=lambda part: len(part.spans)))
    _check_layers(source, include, exclude)
    proposal = None
    with quiet_transformers(), measurements_bar() as watch:
        watch("the float model", 0, 1)
        loaded = load_variant(BASELINE, source.folder, source.dtype, device, block_size, trust_remote_code).model
        together = batch_size or max(1, 2048 // windows.window)
        baseline, *others = [kept_baseline(loaded, part, together) for part in parts]
        measured = measure_sensitivities(model, loaded, baseline, chosen, include or None, exclude or None, watch)
        if allowed is not None:
            proposal = propose(loaded, baseline, others[0], measured, allowed, watch)
    _deliver(measured, proposal, json_file, figure, plan)
    if allowed is not None and proposal is None:
        typer.echo(f"quant: {no_plan(allowed)}", err=True)
        raise typer.Exit(1)


def _budget(text: str) -> float:
    budget = parse_fraction("--budget", text)
    check_budget(budget)
    return budget


def _check_device(device: str) -> None:
    if device == "auto":
        raise QuantError(
            "--device auto spreads a model with replaced forwards over devices, and layers are exchanged here one by "
            "one: use cpu, cuda or cuda:N"
        )


def _default_tokens(source: Source) -> int:
    """Of the embedded text: fewer for a vocabulary so large that logits would not fit."""
    most = most_scored(source.config, source.dtype, LIMIT_BYTES)
    return SENSITIVITY_TOKENS if most is None else min(SENSITIVITY_TOKENS, most)


def _schemes(asked: str, block_size: int, scale: str) -> list[Scheme]:
    """Raises:
    QuantError: a name that is not one of `SCHEMES`, or none.
    """
    names = [name.strip() for name in asked.split(",") if name.strip()]
    check_variants(names, tuple(SCHEMES))
    found = (scheme_of(name, block_size, scale) for name in dict.fromkeys(names))
    return [scheme for scheme in found if scheme is not None]


def _check_layers(source: Source, include: list[str] | None, exclude: list[str] | None) -> None:
    """Raises:
    QuantError: a pattern that matches nothing, or no layers; told by the model without its weights.
    """
    try:
        skeleton = build_on_meta(source.config, source.dtype, source.trust_remote_code)
    except QuantError:  # some code of a checkpoint cannot run without values: loading will tell
        return
    select(skeleton, include or None, exclude or None)


def _check_targets(json_file: Path | None, figure: Path | None, plan: Path | None, budget: float | None) -> None:
    if plan is not None and budget is None:
        raise QuantError("--plan is where the plan for a budget goes: pass --budget, as in --budget 1%")
    if figure is not None and figure.suffix.lower() not in FIGURE_FORMATS:
        raise QuantError(f"--figure {figure}: name a file that ends in {' or '.join(FIGURE_FORMATS)}")
    named = (("--json", None if json_file == STDOUT else json_file), ("--figure", figure), ("--plan", plan))
    targets = [(option, path) for option, path in named if path is not None]
    for option, path in targets:
        check_file(option, path)
    check_different(targets)


def _deliver(
    measured: Sensitivities,
    proposal: Proposal | None,
    json_file: Path | None,
    figure: Path | None,
    plan: Path | None,
) -> None:
    """A figure that cannot be drawn costs neither the other files nor what is printed."""
    record = sensitivity_json(measured, proposal)
    contents: dict[Path, str | bytes] = {}
    if json_file is not None and json_file != STDOUT:
        contents[json_file] = record
    if plan is not None and proposal is not None:
        contents[plan] = proposal.plan.to_json()

    def write() -> None:
        try:
            if figure is not None:
                contents[figure] = _drawn(measured, figure)
        finally:
            write_files(contents)

    write_then_print(write, lambda: _print(measured, proposal, record if json_file == STDOUT else None))


def _drawn(measured: Sensitivities, figure: Path) -> bytes:
    from quant.report.sensitivity_figure import sensitivity_figure  # noqa: PLC0415, matplotlib takes a second

    return sensitivity_figure(measured, figure.suffix)


def _print(measured: Sensitivities, proposal: Proposal | None, record: str | None) -> None:
    """The record if there is one, else tables."""
    if record is not None:
        typer.echo(record, nl=False)
        return
    tables, notes = list(sensitivity_tables(measured)), list(sensitivity_notes(measured))
    if proposal is not None:
        tables.append(proposal_table(proposal))
        notes = [*proposal_notes(proposal), *notes]
    print_report(make_console(), tables, notes)
