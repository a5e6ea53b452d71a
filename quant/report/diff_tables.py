"""The tables of `quant diff` as rows of strings, for the terminal and Markdown; units as in `quant.report.tables`."""

from collections.abc import Callable, Sequence
from typing import Any

from quant.diff import Diff, SchemeDiff
from quant.evaluate.gates import Verdict
from quant.report.tables import NOTHING, Table

Show = Callable[[Any], str]


def diff_tables(diff: Diff) -> Sequence[Table]:
    """Accuracy, then size, speed and memory; each figure before and after, and what became of it."""
    accuracy = (
        _both("perplexity", "perplexity", lambda v: f"{v:.4f}"),
        _both("ratio", "perplexity_ratio", lambda v: f"{v:.5f}"),
        _change("change %", lambda s: s.perplexity_change, 4),
        _both("KL nats", "kl_mean", lambda v: f"{v:.2e}"),
        _change("KL %", lambda s: s.kl_change, 2),
        _both("top-1 %", "top1_agreement", lambda v: f"{100 * v:.2f}"),
    )
    resources = (
        _both("footprint bytes", "footprint_bytes", lambda v: f"{v:,}"),
        _both("decode tok/s", "tokens_per_second", lambda v: f"{v:.1f}"),
        _change("tok/s %", lambda s: s.speed_change, 1),
        _both("CPU GB", "cpu_memory_bytes", lambda v: f"{v / 1e9:.2f}"),
        _both("GPU GB", "gpu_memory_bytes", lambda v: f"{v / 1e9:.2f}"),
    )
    return (_table("Accuracy before -> after", diff, accuracy), _table("Size, speed, memory", diff, resources))


Column = tuple[str, Callable[[SchemeDiff], str]]


def _table(title: str, diff: Diff, columns: Sequence[Column]) -> Table:
    rows = tuple((s.scheme, verdict_of(s), *(show(s) for _, show in columns)) for s in diff.schemes)
    return Table(title, ("scheme", "verdict", *(name for name, _ in columns)), rows)


def verdict_of(scheme: SchemeDiff) -> str:
    """In a word."""
    if scheme.before is None:
        return "new"
    if scheme.after is None:
        return "missing"
    return NOTHING if scheme.verdict is None else scheme.verdict.value


def _both(title: str, name: str, show: Show) -> Column:
    """A figure of both records; once where it shows the same."""

    def cell(scheme: SchemeDiff) -> str:
        values = [getattr(side, name, None) for side in (scheme.before, scheme.after)]
        old, new = (NOTHING if value is None else show(value) for value in values)
        return old if old == new else f"{old} -> {new}"

    return title, cell


def _change(title: str, value: Callable[[SchemeDiff], float | None], digits: int) -> Column:
    """A change in percent."""

    def cell(scheme: SchemeDiff) -> str:
        change = value(scheme)
        return NOTHING if change is None else f"{100 * change:+.{digits}f}"

    return title, cell


def diff_notes(diff: Diff) -> Sequence[str]:
    """The verdict, every check that found a change, and how the two runs differ."""
    env = diff.after.environment
    return (
        f"{diff.after.model}, {env.dtype}; {env.scored_tokens:,} tokens scored: {_verdict(diff)}",
        *(check.text for scheme in diff.schemes for check in scheme.checks if check.changed),
        *(f"{scheme.scheme}: new, there is nothing to compare it with" for scheme in diff.schemes if not scheme.before),
        *diff.notes,
    )


def _verdict(diff: Diff) -> str:
    """In a sentence."""
    named = {verdict: [s.scheme for s in diff.schemes if s.verdict is verdict] for verdict in Verdict}
    if diff.regressed:
        return f"regression of {', '.join(named[Verdict.REGRESSION])}"
    if named[Verdict.INCONCLUSIVE]:
        return f"no regression found, inconclusive for {', '.join(named[Verdict.INCONCLUSIVE])}"
    changed = any(check.changed for scheme in diff.schemes for check in scheme.checks)
    return "no regression" if changed else "no regression, what was judged has not changed"
