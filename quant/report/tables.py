"""The tables of a report as rows of strings, shared by the terminal and Markdown so that both say the same.

Units as the field has them: MB is 10^6 bytes, MiB 2^20, GB 10^9; perplexity changes in percent; KL in nats.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quant.checkpoint.summary import Summary
from quant.inspection import Inspection, Sizing
from quant.records import Comparison

NOTHING = "-"


@dataclass(frozen=True)
class Table:
    """title, header and rows; the first column is text, the others are numbers (right-aligned)."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def _cell(value: float | None, show: Callable[[float], str]) -> str:
    return NOTHING if value is None else show(value)


def bounds(interval: tuple[float, float] | None, form: str) -> str:
    """An interval in brackets, its ends in the format `form` (".5f"); `NOTHING` where there is none."""
    return NOTHING if interval is None else f"[{interval[0]:{form}}, {interval[1]:{form}}]"


def accuracy_table(comparison: Comparison) -> Table:
    """Perplexity with its paired ratio, KL divergence and top-1 agreement."""
    rows = [
        (
            result.scheme,
            _cell(result.perplexity, lambda v: f"{v:.4f}"),
            _cell(result.perplexity_difference, lambda v: f"{v:+.4f}"),
            _cell(result.perplexity_relative_change, lambda v: f"{100 * v:+.4f}"),
            _cell(result.perplexity_ratio, lambda v: f"{v:.5f}"),
            bounds(result.perplexity_ratio_ci, ".5f"),
            _cell(result.kl_mean, lambda v: f"{v:.2e}"),
            _cell(result.top1_agreement, lambda v: f"{100 * v:.2f}"),
        )
        for result in comparison.measured
    ]
    header = ("scheme", "perplexity", "difference", "change %", "ratio", "95 % interval", "KL nats", "top-1 %")
    return Table("Accuracy against the baseline on the same tokens", header, tuple(rows))


def size_table(comparison: Comparison) -> Table:
    """Footprint and memory by dtype."""
    results = comparison.measured
    dtypes = list(dict.fromkeys(dtype for result in results for dtype in result.bytes_by_dtype))
    rows = [
        (
            result.scheme,
            f"{result.quantized_layers} of {result.linear_layers}",
            _cell(result.footprint_bytes, lambda v: f"{v:,.0f}"),
            _cell(result.times_smaller, lambda v: f"{v:.2f}"),
            *(f"{result.bytes_by_dtype.get(dtype, 0) / 2**20:.2f}" for dtype in dtypes),
        )
        for result in results
    ]
    header = ("scheme", "layers", "footprint bytes", "smaller x", *(f"{dtype} MiB" for dtype in dtypes))
    return Table("Size", header, tuple(rows))


def speed_table(comparison: Comparison) -> Table:
    """Generation: time, tokens per second, memory."""
    results = comparison.measured
    rows = [
        (
            result.scheme,
            _cell(result.generate_seconds, lambda v: f"{v:.3f}"),
            _cell(result.prefill_tokens_per_second, lambda v: f"{v:.0f}"),
            _cell(result.tokens_per_second, lambda v: f"{v:.1f}"),
            _cell(result.times_faster, lambda v: f"{v:.2f}"),
            _cell(result.load_seconds, lambda v: f"{v:.2f}"),
            _cell(result.cpu_memory_bytes, lambda v: f"{v / 1e9:.2f}"),
            _cell(result.gpu_memory_bytes, lambda v: f"{v / 1e9:.2f}"),
        )
        for result in results
    ]
    title = f"Generating {comparison.new_tokens} tokens after a prompt of {comparison.prompt_tokens}"
    header = ("scheme", "seconds", "prefill tok/s", "decode tok/s", "speed x", "load s", "CPU GB", "GPU GB")
    return Table(title, header, tuple(rows))


def comparison_tables(comparison: Comparison) -> Sequence[Table]:
    """All tables of a comparison, in reading order."""
    return accuracy_table(comparison), size_table(comparison), speed_table(comparison)


def comparison_notes(comparison: Comparison) -> Sequence[str]:
    """What the tables were measured on, and the schemes that are missing from them."""
    env = comparison.environment
    bos = "no BOS" if env.bos_id is None else f"BOS {env.bos_id} before each window"
    versions = ", ".join(f"{name} {version}" for name, version in env.versions.items())
    windows = f"window {env.window}, stride {env.stride}, {bos}"
    return (
        f"{comparison.model}, {env.dtype}; {env.scored_tokens:,} tokens scored, {windows}",
        *_blocks(comparison),
        *(
            f"scales searched for the least squared error: {', '.join(searched)}"
            for searched in [[r.scheme for r in comparison.results if r.scale == "mse"]]
            if searched
        ),
        f"{env.cpu}, {env.threads} threads, device {env.device}{_processes(comparison)}; {versions}",
        "times are of this run alone: on a machine that does other work they move by a factor of two",
        *(
            f"{result.scheme}: {result.offloaded_bytes:,} bytes did not fit on the device and are fetched for every "
            "call, which its times include"
            for result in comparison.results
            if result.offloaded_bytes
        ),
        *(
            f"no 95 % interval: {reason}"
            for reason in dict.fromkeys(r.interval_note for r in comparison.results if r.interval_note)
        ),
        *(f"{result.scheme} not measured: {result.error}" for result in comparison.results if result.error is not None),
    )


def _blocks(comparison: Comparison) -> Sequence[str]:
    """The sizes of blocks, and whose: transformers passes none on to bitsandbytes."""
    sizes = sorted({result.block_size for result in comparison.results if result.block_size})
    theirs = any(result.scheme in ("bnb-fp4", "bnb-nf4") for result in comparison.measured)
    whose, others = ("our 4-bit schemes", ", bitsandbytes' in its default") if theirs else ("4-bit schemes", "")
    return [f"{whose} in blocks of {size}{others}" for size in sizes]


def _processes(comparison: Comparison) -> str:
    return f", {comparison.processes} processes" if comparison.processes > 1 else ""


def sizing_tables(sizing: Sizing) -> Sequence[Table]:
    """The tables of `quant inspect`."""
    before, after = sizing.before, sizing.after
    columns = [before] if after is None else [before, after]
    names = ("before",) if after is None else ("before", f"after {sizing.scheme}")

    def row(label: str, value: Callable[[Inspection], str]) -> tuple[str, ...]:
        return (label, *(value(column) for column in columns))

    dtypes = list(dict.fromkeys(dtype for column in columns for dtype in column.size.by_dtype))
    layer_types = list(dict.fromkeys(name for column in columns for name in column.layer_types))
    tables = [
        Table(
            "Footprint in bytes",
            ("", *names),
            (
                row("parameters", lambda c: f"{c.size.parameter_bytes:,}"),
                row("buffers", lambda c: f"{c.size.buffer_bytes:,}"),
                row("total", lambda c: f"{c.size.total_bytes:,}"),
            ),
        ),
        Table("Memory by dtype in MiB", ("", *names), tuple(row(d, _mebibytes(d)) for d in dtypes)),
        Table("Modules by type", ("", *names), tuple(row(t, _count(t)) for t in layer_types)),
    ]
    if after is not None:
        tables.append(
            Table(f"Tensors of {after.example_name}", ("name", "dtype and shape"), tuple(after.example.items()))
        )
    return tables


def _mebibytes(dtype: str) -> Callable[[Inspection], str]:
    return lambda column: f"{column.size.by_dtype.get(dtype, 0) / 2**20:,.2f}"


def _count(layer_type: str) -> Callable[[Inspection], str]:
    return lambda column: str(column.layer_types.get(layer_type, 0))


def sizing_notes(sizing: Sizing) -> Sequence[str]:
    """What was sized, how many layers were converted, and what was left."""
    notes = [f"{sizing.model} in {sizing.dtype}: {sizing.before.linear_layers} linear layers"]
    if sizing.after is not None:
        notes.append(f"{sizing.after.quantized_layers} of {sizing.after.linear_layers} linear layers quantized")
        notes += [f"left {name}: {reason}" for name, reason in sizing.left.items()]
    return notes


def summary_tables(summary: Summary) -> Sequence[Table]:
    """The tables of `quant inspect` for a quantized folder."""
    return [
        Table(title, ("", "bytes"), (*((name, f"{size:,}") for name, size in sizes.items()), _total(sizes)))
        for title, sizes in (("Tensors by dtype", summary.bytes_by_dtype), ("Files", summary.bytes_by_file))
    ]


def _total(sizes: dict[str, int]) -> tuple[str, str]:
    return "total", f"{sum(sizes.values()):,}"


def summary_notes(model: str, summary: Summary) -> Sequence[str]:
    """What is stored, and how."""
    options = "".join(f", {name} {value}" for name, value in summary.options.items())
    mixed = summary.layers_by_scheme if len(summary.layers_by_scheme) > 1 else {}
    return (
        f"{model}: {summary.method}{options}; {summary.layers} layers quantized, the rest in {summary.dtype}; "
        f"{summary.tensors} tensors",
        *(f"{count} layers: {scheme}" for scheme, count in mixed.items()),
    )
