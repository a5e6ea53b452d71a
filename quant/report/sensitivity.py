"""The tables of `quant sensitivity`, their notes and their JSON."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from quant.convert import counted
from quant.mixed_precision import scheme_to_dict
from quant.report.json_file import SCHEMA, dump
from quant.report.tables import Table, bounds
from quant.sensitivity import ALL, Sensitivities, Sensitivity
from quant.sensitivity.proposal import Proposal

MANY = 5
"""Layers of one scheme that are not listed one by one."""
HEADER = ("layers", "scheme", "KL nats", "95 % interval", "ratio", "95 % interval", "top-1 %", "bytes", "quantized")


def sensitivity_tables(measured: Sensitivities) -> Sequence[Table]:
    """The layers and the kinds, the most sensitive first."""
    labels = measured.labels
    layers, kinds = (tuple(_row(one, labels[one.scheme]) for one in ones) for ones in (measured.layers, measured.kinds))
    tables = [Table("Each layer quantized alone, by KL divergence", HEADER, layers)]
    if kinds:
        tables.append(Table("All layers of a kind quantized, and no other", HEADER, kinds))
    return tables


def _row(one: Sensitivity, scheme: str) -> tuple[str, ...]:
    accuracy = one.accuracy
    return (
        one.name if len(one.layers) == 1 else f"{one.name} ({len(one.layers)})",
        scheme,
        f"{accuracy.kl.value:.2e}",
        bounds(accuracy.kl.interval, ".2e"),
        f"{accuracy.ratio.value:.5f}",
        bounds(accuracy.ratio.interval, ".5f"),
        f"{100 * accuracy.top1_agreement:.2f}",
        f"{one.bytes_before:,}",
        f"{one.bytes_after:,}",
    )


def sensitivity_notes(measured: Sensitivities) -> Sequence[str]:
    """What the tables were measured on, what the single layers add up to, and what was not measured."""
    env = measured.environment
    reasons = dict.fromkeys(one.accuracy.ratio.reason for one in measured.layers if one.accuracy.ratio.reason)
    versions = ", ".join(f"{name} {version}" for name, version in env.versions.items())
    return (
        f"{measured.model}, {env.dtype}, perplexity {measured.perplexity:.4f}; {env.scored_tokens:,} tokens scored, "
        f"window {env.window}, stride {env.stride}, {'no BOS' if env.bos_id is None else f'BOS {env.bos_id}'}",
        *(
            f"{one.scheme}: if what single layers cost adds up, all together have a ratio of "
            f"{measured.added_up(one.scheme):.5f}; measured {one.accuracy.ratio.value:.5f}"
            for one in measured.kinds
            if one.name == ALL
        ),
        f"{env.cpu}, {env.threads} threads, device {env.device}; {versions}",
        *(f"no 95 % interval: {reason}" for reason in reasons),
        *(f"not measured {name}: {reason}" for name, reason in measured.left.items()),
    )


def proposal_table(proposal: Proposal) -> Table:
    """What the plan says: layer by layer, and in one row of most of them, where these are many."""
    schemes = {name: "float" if scheme is None else str(scheme) for name, scheme in proposal.plan.layers.items()}
    (most, count), *_ = Counter(schemes.values()).most_common()
    rows = tuple((name, scheme) for name, scheme in schemes.items() if count < MANY or scheme != most)
    if count >= MANY:
        rows = (*rows, (f"the other {count}" if rows else f"all {count}", most))
    return Table(f"The plan for a budget of {100 * proposal.provenance.budget:g} %", ("layer", "scheme"), rows)


def proposal_notes(proposal: Proposal) -> Sequence[str]:
    """What the plan is and what it was measured to cost."""
    found = proposal.provenance
    schemes = {name: scheme for name, scheme in proposal.plan.layers.items() if scheme is not None}
    return (
        f"{len(schemes)} of {len(proposal.plan.layers)} linear layers quantized ({counted(schemes)}); the measured "
        f"layers' weights: {found.bytes_before:,} -> {found.bytes_after:,} bytes",
        f"perplexity ratio predicted {found.predicted_ratio:.5f} (sum of single layers), measured "
        f"{found.measured_ratio:.5f} {bounds(found.measured_ratio_ci, '.5f')}: within {1 + found.budget:g}",
        f"chosen on the first half of the windows ({found.tried} plans measured), held to the other half, which had no "
        f"part in the choice ({found.looks} measured there)",
    )


def no_plan(budget: float) -> str:
    """What there is to say where no plan stays within `budget`."""
    return (
        f"no plan: none of those measured keeps the upper end of the interval within a perplexity ratio of "
        f"{1 + budget:g}: allow more, or measure on a longer text"
    )


def sensitivity_json(measured: Sensitivities, proposal: Proposal | None) -> str:
    """`{"schema": 1, "model": ..., "layers": [{"name": ..., "scheme": ..., "kl_mean": ...}, ...], "kinds": [...],
    "plan": {...} or null}`; names of figures as in `quant compare --json`.
    """
    return dump(
        {
            "schema": SCHEMA,
            "environment": asdict(measured.environment),
            "model": measured.model,
            "perplexity": measured.perplexity,
            "layers": [_record(one) for one in measured.layers],
            "kinds": [_record(one) for one in measured.kinds],
            "left": measured.left,
            "plan": None if proposal is None else proposal.plan.to_dict(),
        }
    )


def _record(one: Sensitivity) -> dict[str, Any]:
    accuracy = one.accuracy
    return {
        "name": one.name,
        "layers": list(one.layers),
        **scheme_to_dict(one.scheme),
        "perplexity": accuracy.perplexity,
        "perplexity_ratio": accuracy.ratio.value,
        "perplexity_ratio_ci": accuracy.ratio.interval,
        "interval_note": accuracy.ratio.reason,
        "kl_mean": accuracy.kl.value,
        "kl_mean_ci": accuracy.kl.interval,
        "top1_agreement": accuracy.top1_agreement,
        "bytes_before": one.bytes_before,
        "bytes_after": one.bytes_after,
    }
