"""The tables of the page as rows of strings, from the records."""

import statistics
from collections.abc import Sequence

from quant.report.tables import NOTHING, Table, bounds
from quant.study.distributions import DISTRIBUTIONS
from quant.study.formats import AFFINE, PLAIN, SEARCHED, absmax_like, scheme_of
from quant.study.intervals import decibels
from quant.study.records import Layer, Study
from quant.study.verdicts import sign_above

SHOWN = (*PLAIN, AFFINE)
BLOCKS = "weights per block"


def all_tables(study: Study) -> dict[str, Table]:
    """Name -> table, as the template asks for them."""
    return {
        "entropy": entropy_table(study),
        "errors": error_table(study),
        "largest": largest_table(study),
        "double_quant": double_quant_table(study),
        "layers": layer_table(study),
        "model": model_table(study),
        "scale": scale_table(study),
        "scale_model": scale_model_table(study),
        "speed": speed_table(study),
        "support": support_table(study),
    }


def entropy_table(study: Study) -> Table:
    """Bits of the codes of normal weights."""
    found = {(e.format, e.block_size): e for e in study.entropies}
    header = (BLOCKS, *(text for form in PLAIN for text in (f"{form}, derived", f"{form}, counted")))
    rows = []
    for size in study.settings.block_sizes:
        entries = [found[form, size] for form in PLAIN]
        cells = ((f"{e.derived:.3f}", f"{e.sampled:.3f} {bounds(e.interval, '.3f')}") for e in entries)
        rows.append((str(size), *(cell for pair in cells for cell in pair)))
    return Table(
        "Entropy of the codes of normal weights in bits, 4 where all 16 are equally likely", header, tuple(rows)
    )


def error_table(study: Study) -> Table:
    """SQNR on every distribution."""
    found = {(e.distribution, e.format, e.block_size): e for e in study.errors}
    rows = []
    for name, distribution in DISTRIBUTIONS.items():
        for size in study.settings.block_sizes:
            nf4 = found[name, "nf4", size]
            sqnr = (f"{decibels(found[name, form, size].relative_mse):.2f}" for form in SHOWN)
            above = f"{nf4.against_int4:+.2f} {bounds(nf4.against_int4_interval, '.2f')}"
            rows.append((distribution.title, str(size), *sqnr, above))
    return Table("SQNR on synthetic data in dB", ("data", BLOCKS, *SHOWN, "nf4 - int4"), tuple(rows))


def largest_table(study: Study) -> Table:
    """The largest errors beside their bounds."""
    rows = []
    for name, distribution in DISTRIBUTIONS.items():
        of_data = [e for e in study.errors if e.distribution == name]
        rows.append((distribution.title, *(f"{max(e.largest for e in of_data if e.format == f):.4f}" for f in PLAIN)))
    bound = ("half the widest gap", *(f"{scheme_of(form, 64).worst_case_error:.4f}" for form in PLAIN))
    return Table("Largest error of a weight, over the absmax of its block", ("data", *PLAIN), (*rows, bound))


def double_quant_table(study: Study) -> Table:
    """What double quantization saves and costs."""
    found = {(e.format, e.block_size): e for e in study.errors if e.distribution == "normal"}
    rows = []
    for size in study.settings.block_sizes:
        plain = [decibels(found[form, size].relative_mse) for form in PLAIN]
        double = [decibels(found[f"{form}-dq", size].relative_mse) for form in PLAIN]
        bits = (f"{found[form, size].bits:.3f}" for form in ("nf4", "nf4-dq"))
        rows.append((str(size), *bits, *(f"{round(a - b, 3) + 0.0:.3f}" for a, b in zip(plain, double, strict=True))))
    header = (BLOCKS, "bits a weight", "with double quantization", *(f"{form} loses, dB" for form in PLAIN))
    return Table("Double quantization on normal data", header, tuple(rows))


def layer_table(study: Study) -> Table:
    """The model's weights by block size."""
    rows = []
    for size in study.settings.block_sizes:
        layers = [layer for layer in study.layers if layer.block_size == size]
        signs = [sign_above(layer.interval) for layer in layers]
        beside = sum(layer.sqnr["nf4"] > layer.sqnr[AFFINE] for layer in layers)
        sqnr = (f"{pooled(layers, form):.2f}" for form in SHOWN)
        rows.append((str(size), *sqnr, *(str(signs.count(sign)) for sign in (1, -1, 0)), str(beside)))
    won = ("nf4 above int4", "int4 above nf4", "undecided", f"nf4 above {AFFINE}")
    total = len({layer.layer for layer in study.layers})
    title = f"SQNR on the model's weights in dB, and in how many of {total} layers which format has more"
    return Table(title, (BLOCKS, *SHOWN, *won), tuple(rows))


def scale_table(study: Study) -> Table:
    """What scales of least squared error gain, in data and weights."""
    found = {(e.distribution, e.format, e.block_size): e for e in study.errors}
    rows = []
    for name, distribution in DISTRIBUTIONS.items():
        for size in study.settings.block_sizes:
            gains = (found[name, form, size] for form in SEARCHED)
            cells = (f"{e.against_absmax:+.2f} {bounds(e.against_absmax_interval, '.2f')}" for e in gains)
            rows.append((distribution.title, str(size), *cells))
    for size in study.settings.block_sizes:
        layers = [layer for layer in study.layers if layer.block_size == size]
        gained = (f"{pooled(layers, form) - pooled(layers, absmax_like(form)):+.2f}" for form in SEARCHED)
        rows.append(("the model's weights", str(size), *gained))
    header = ("data", BLOCKS, *(absmax_like(form) for form in SEARCHED))
    return Table("SQNR that scales of least squared error gain over absmax scales, in dB", header, tuple(rows))


def scale_model_table(study: Study) -> Table:
    """What they gain in the whole model."""
    found = {(m.format, m.block_size): m for m in study.models}
    rows = []
    for size in study.settings.block_sizes:
        pairs = [(found[form, size], found[absmax_like(form), size]) for form in SEARCHED if (form, size) in found]
        for searched, plain in pairs:
            over = f"{searched.against_absmax:.5f} {bounds(searched.against_absmax_interval, '.5f')}"
            rows.append(
                (
                    plain.format,
                    str(size),
                    over,
                    f"{plain.kl:.2e}",
                    f"{searched.kl:.2e}",
                    f"{searched.kl / plain.kl:.2f}",
                )
            )
    header = ("format", BLOCKS, "perplexity over absmax scales'", "KL, absmax", "KL, searched", "KL ratio")
    return Table("The whole model with scales of least squared error", header, tuple(rows))


def model_table(study: Study) -> Table:
    """The whole model."""
    rows = [("float", NOTHING, "32.000", f"{study.float_bytes:,}", f"{study.float_perplexity:.4f}", *[NOTHING] * 5)]
    for m in sorted(study.models, key=lambda m: (m.block_size, m.format)):
        rows.append(
            (
                m.format,
                str(m.block_size),
                f"{m.bits:.3f}",
                NOTHING if m.footprint_bytes is None else f"{m.footprint_bytes:,}",
                f"{m.perplexity:.4f}",
                f"{m.ratio:.5f} {bounds(m.ratio_interval, '.5f')}",
                NOTHING if m.against_int4 is None else f"{m.against_int4:.5f} {bounds(m.against_int4_interval, '.5f')}",
                f"{m.kl:.2e}",
                bounds(m.kl_interval, ".2e"),
                f"{100 * m.top1:.2f}",
            )
        )
    header = (
        "format",
        BLOCKS,
        "bits",
        "footprint bytes",
        "perplexity",
        "ratio",
        "over int4",
        "KL nats",
        "interval",
        "top-1 %",
    )
    return Table("The whole model", header, tuple(rows))


def speed_table(study: Study) -> Table:
    """Decode speed: medians and quartiles."""
    rows = [
        (
            speed.format,
            str(speed.block_size),
            f"{speed.tokens_per_second:.1f}",
            spread(speed.over_float),
            spread(speed.over_int4),
        )
        for speed in study.speeds
    ]
    header = ("format", BLOCKS, "tokens/s", "over float", "over int4")
    return Table("Decode speed: median of the rounds, and in brackets the least and the largest", header, tuple(rows))


def support_table(study: Study) -> Table:
    """Who computes with the formats."""
    rows = [
        (
            entry.format,
            ", ".join(entry.kernels) or NOTHING,
            f"{entry.fixed_point_error:.1e}",
            ", ".join(f"`{name.removeprefix('aten::')}`" for name in entry.torch_operators) or NOTHING,
        )
        for entry in study.support
    ]
    header = ("format", "this CPU's kernels", "rounding of levels in them", "torch operators with the name in theirs")
    return Table("Support", header, tuple(rows))


def spread(ratios: Sequence[float]) -> str:
    """Median, least and largest."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def pooled(layers: Sequence[Layer], form: str) -> float:
    """SQNR in dB of the mean relative squared error over weights: as if all layers had the same mean square."""
    total = sum(layer.weights for layer in layers)
    return decibels(sum(layer.weights * 10 ** (-layer.sqnr[form] / 10) for layer in layers) / total)
