"""Did a model get worse from one comparison to the next? Records in, verdicts out, scheme by scheme.

| check | what is compared, window by window | red where |
|---|---|---|
| perplexity ratio | what the scheme adds to the baseline's mean loss | worse than chance |
| perplexity, of the baseline | its mean loss | worse than chance |
| KL divergence | its mean | worse than chance and rounding |

| check | what is compared, of the whole | red where |
|---|---|---|
| footprint | bytes | one more |
| speed | decoded tokens per second, only where a limit is given | slower by more than that |

Accuracy is paired: both runs scored the same tokens in the same windows, so the text's own variation cancels and only
what changed is left. With d the mean over tokens of the difference, s its standard error between windows (the circular
block bootstrap's, in closed form: `quant.evaluate.statistics.windowed_mean`; single windows are the blocks, as for the
gates, and longer ones where windows overlap) and q the quantile of Student's t at the gates' rate of false alarms
(`quant.evaluate.recording.FALSE_ALARM`, two-sided), the verdict is

    regression      d - q s > 0: it is worse, and not by chance
    pass            d + q s <= 0: it is no worse; so is what has not changed in any window
    inconclusive    otherwise: it may be worse, by d + q s at most, or better

Integer layers give the same bits on every CPU, but the float parts before and between them round otherwise with another
CPU, thread count or release of torch. Losses then fall to either side, and their mean is judged as it is. A divergence
is quadratic: rounding with token variance v adds about v / 2 to its mean, with one sign in every window, which no
standard error covers. What that may be is estimated from the two runs themselves. With e the changes of a scheme's
window means, n their tokens and errors of tokens independent, v = sum(n^2 e^2) / sum(n); the float model's own variance
is added, for a divergence is from that. So

    rounding        (v of the baseline + v of the scheme) / 2
    inconclusive    where d - q s of a KL divergence is above 0 and not above that

On the embedded model in bfloat16, where `quant.evaluate.noise` stands for another machine, this estimates 1.4e-3 nats
and rounding added 1.0e-3 to W8A16's divergence, eighteen times its reach; in float32 both are below 1e-8. An error
that a fault adds looks the same, so the scheme's v counts up to a measured multiple of the baseline's only
(`quant.diff.checks.AMPLIFIED`): in float32 that hides next to nothing, in 16 bits what rounding alone could be. Where
the baseline's windows are the same to the bit, nothing is taken off; where it is another model, its own check tells
so. How much worse is worth an alarm is for the reader, who has the figure; `quant.evaluate.gates` holds a model to
margins instead.

Speed and memory are told and not judged: they are noisy, and mean nothing between machines. A limit for the speed is
held to only where both runs had the same CPU, threads, device, torch and lengths.

Refused, rather than judged by less: other tokens, windows or dtypes, a CPU against a GPU, records without means of
windows, and too few windows for a standard error, unless these have not changed. `sizes_only` leaves accuracy out, and
says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from quant.diff.checks import Difference, Pair, accuracy_checks, footprint_check, speed_check
from quant.errors import QuantError
from quant.evaluate.gates import GateResult, Verdict
from quant.evaluate.thresholds import CPU, IDENTITY
from quant.records import Comparison, Result

CONDITIONS = ("batch_size", "device", "cpu", "threads")
"""Fields of the fingerprint that are told where they differ, as are versions."""
SPEED_CONDITIONS = ("cpu", "threads", "device", "dtype")
"""Fields of the fingerprint that speeds must agree in; beside these torch, the lengths and the number of processes."""


@dataclass(frozen=True)
class SchemeDiff:
    """One scheme in both runs; None where it was not measured. checks: what was judged, with the verdicts."""

    scheme: str
    before: Result | None
    after: Result | None
    checks: tuple[Difference, ...]

    @property
    def verdict(self) -> Verdict | None:
        """As of a gate: the worst of the checks; None where nothing was judged."""
        return GateResult(self.scheme, self.checks).verdict if self.checks else None

    @property
    def perplexity_change(self) -> float | None:
        """Of the ratio to the baseline, or of the baseline's perplexity; a fraction, as the other changes."""
        name = "perplexity" if self.before is not None and self.before.perplexity_ratio is None else "perplexity_ratio"
        return self._change(name)

    @property
    def kl_change(self) -> float | None:
        """Of the mean KL divergence."""
        return self._change("kl_mean")

    @property
    def speed_change(self) -> float | None:
        """Of the decoded tokens per second."""
        return self._change("tokens_per_second")

    def _change(self, name: str) -> float | None:
        old, new = (getattr(side, name, None) for side in (self.before, self.after))
        return None if not old or new is None else new / old - 1


@dataclass(frozen=True)
class Diff:
    """All schemes of both runs, those of the first one first. notes: what differs in how they were measured."""

    before: Comparison
    after: Comparison
    schemes: tuple[SchemeDiff, ...]
    notes: tuple[str, ...]

    @property
    def regressed(self) -> bool:
        """Whether any check is a regression."""
        return any(scheme.verdict is Verdict.REGRESSION for scheme in self.schemes)

    @property
    def inconclusive(self) -> bool:
        """Whether any check is inconclusive."""
        return any(check.verdict is Verdict.INCONCLUSIVE for scheme in self.schemes for check in scheme.checks)


def diff(before: Comparison, after: Comparison, max_slowdown: float | None = None, sizes_only: bool = False) -> Diff:
    """What changed from `before` to `after`.

    Args:
        max_slowdown: part of the decoding speed that may be lost, as in 0.2; None: speed is not judged.
        sizes_only: do not judge accuracy, which need not be comparable then.

    Raises:
        QuantError: a limit that is none, or what is to be judged cannot be compared.
    """
    if max_slowdown is not None:
        _check_speeds_comparable(before, after, max_slowdown)
    differing = [*_differing(before, after, IDENTITY), *_kinds_of_device(before, after)]
    if before.window_tokens != after.window_tokens and not differing:
        differing.append("the tokens of each window")
    if differing and not sizes_only:
        raise QuantError(
            f"the accuracy of these runs cannot be compared, they differ in {'; '.join(differing)}: measure both on "
            "the same text and windows, or judge sizes alone with --sizes-only"
        )
    old, new = ({r.scheme: r for r in comparison.measured} for comparison in (before, after))

    def checks(name: str) -> list[Difference]:
        if name not in old:
            return []
        if name not in new:
            text = f"{name}: missing from the second run{_reason(after, name)}: {Verdict.REGRESSION.value}"
            return [Difference("scheme", Verdict.REGRESSION, text)]
        accuracy = [] if sizes_only else accuracy_checks(Pair(before, after, old[name], new[name]))
        speed = [] if max_slowdown is None else [speed_check(old[name], new[name], max_slowdown)]
        return [*accuracy, footprint_check(old[name], new[name]), *speed]

    names = dict.fromkeys([*old, *new])
    schemes = tuple(SchemeDiff(name, old.get(name), new.get(name), tuple(checks(name))) for name in names)
    return Diff(before, after, schemes, _notes(before, after, sizes_only))


def _reason(comparison: Comparison, name: str) -> str:
    errors = [result.error for result in comparison.results if result.scheme == name and result.error is not None]
    return f": {errors[0]}" if errors else ""


def _check_speeds_comparable(before: Comparison, after: Comparison, max_slowdown: float) -> None:
    if not 0 < max_slowdown < 1:
        raise QuantError(f"a slowdown of {100 * max_slowdown:g} % is no limit: use more than 0 % and less than 100 %")
    differing = _differing(before, after, SPEED_CONDITIONS)
    differing += [line for line in _differing_versions(before, after) if line.startswith("torch:")]
    for name in ("prompt_tokens", "new_tokens", "processes"):
        values = [getattr(comparison, name) for comparison in (before, after)]
        if values[0] != values[1]:
            differing.append(f"{name}: {values[0]} and {values[1]}")
    if differing:
        raise QuantError(
            f"the speeds of these runs cannot be compared, they differ in {'; '.join(differing)}: take both on one "
            "machine and with the same settings, or leave --max-slowdown out"
        )


def _differing(before: Comparison, after: Comparison, names: Sequence[str]) -> list[str]:
    """The fields of the fingerprint, of those called `names`, that differ, with both values."""
    pairs = ((name, *(getattr(side.environment, name) for side in (before, after))) for name in names)
    return [f"{name}: {then} and {now}" for name, then, now in pairs if then != now]


def _kinds_of_device(before: Comparison, after: Comparison) -> list[str]:
    """Both devices where only one of them is the CPU, and why that matters."""
    then, now = before.environment.device, after.environment.device
    if (then == CPU) == (now == CPU):
        return []
    return [f"device: {then} and {now}, and quantized layers have the same bits on every CPU and not on GPUs"]


def _notes(before: Comparison, after: Comparison, sizes_only: bool) -> tuple[str, ...]:
    """What a reader has to know of how the two were measured."""
    notes = []
    if sizes_only:
        differing = [*_differing(before, after, IDENTITY), *_kinds_of_device(before, after)]
        why = f", not comparable: {'; '.join(differing)}" if differing else ""
        notes.append(f"accuracy was not judged{why}")
    if before.model != after.model:
        notes.append(f"the models have different names: {before.model} and {after.model}")
    conditions = [*_differing(before, after, CONDITIONS), *_differing_versions(before, after)]
    if conditions:
        notes.append(f"measured under different conditions: {'; '.join(conditions)}")
    new = {result.scheme: result for result in after.measured}
    for old in before.measured:
        now = new.get(old.scheme, old)
        if old.block_size != now.block_size:
            notes.append(f"{old.scheme} was in blocks of {old.block_size}, and is in blocks of {now.block_size}")
        if old.scale != now.scale:
            notes.append(f"{old.scheme} had its scales from {old.scale}, and has them from {now.scale}")
    return tuple(notes)


def _differing_versions(before: Comparison, after: Comparison) -> list[str]:
    """The packages that differ, with both versions."""
    old, new = before.environment.versions, after.environment.versions
    return [
        f"{name}: {old.get(name, 'none')} and {new.get(name, 'none')}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]
