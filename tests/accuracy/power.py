"""`python -m tests.accuracy.power`: write docs/accuracy-gates.md, what the gates catch and how often they are wrong.

Its tables are the thresholds' margins, simulations at the rate that is used, and every planted fault's verdicts; the
simulations take some five minutes.
    python -m tests.accuracy.power --keep-simulation   the same, with the simulations as the document has them
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from quant.evaluate.gates import NOISE_FACTOR, GateResult, Verdict
from quant.evaluate.recording import FALSE_ALARM
from quant.evaluate.thresholds import ThresholdFile
from quant.gated_model import GatedModel
from quant.variants import OURS
from tests.accuracy.planted import PLANTED
from tests.accuracy.simulation import simulate

ROOT = Path(__file__).parents[2]
THRESHOLDS = ThresholdFile(ROOT / "tests" / "accuracy" / "thresholds.json")
DOCUMENT = ROOT / "docs" / "accuracy-gates.md"
RUNS = 100_000
SIMULATED, FAULTS = "## Simulated", "## Planted"
CASES: dict[str, dict[str, Any]] = {
    "errors of their own only": {},
    "the text moves both as much": {"shared": 1.0, "phi": 0.6},
    "24 windows": {"windows": 24},
}


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Markdown, the first column to the left."""
    rule = ("---", *("---:" for _ in head[1:]))
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows))


def power_table(thresholds: ThresholdFile, model: str) -> str:
    """What each scheme's checks catch."""
    rows = []
    for scheme in OURS:
        t = thresholds.read(model, scheme)
        rows.append(
            (
                scheme,
                f"{t.perplexity_ratio:.5f}",
                f"{100 * t.perplexity_margin:.3f} %",
                f"{t.kl:.3e}",
                f"{100 * t.kl_margin / t.kl:.1f} %",
                f"{t.noise:.1e}",
                f"{NOISE_FACTOR * t.noise:.1e}",
            )
        )
    head = ("scheme", "ratio", "caught: worse by", "KL nats", "caught: worse by", "rounding nats", "caught: moved by")
    return table(head, rows)


def power_section(model: GatedModel) -> str:
    """How the document begins: what each check catches."""
    return f"""# The accuracy gates: what they catch, and how often they are wrong

Written by `python -m tests.accuracy.power`. What the checks compute and why is in `quant/evaluate/gates.py` and
`recording.py`; what measured figures were recorded on, and with what, in `tests/accuracy/thresholds.json`.

Most of the faults that libraries have shipped cost less accuracy than a text can tell: [which check sees
what](#which-check-sees-what) says how few the perplexity ratio sees, and why there are others beside it.

## Power

On the embedded model in float32 and {model.windows.scored:,} tokens of its held-out text.

The checks of the perplexity ratio and of the KL divergence say whether a model is worse. Each has a figure beside it: a
model that is worse by that much passes with a probability of {FALSE_ALARM:g}, and one that is as good as the recorded
one fails with the same probability. A scheme has both checks, so that a measurement raises at most twice as many false
alarms. With more tokens both catch smaller worsenings, by the root of their number. Both look to either side: a model
that is better by as much is not the recorded one, is red too, and is told as better.

The third check, the change, says whether the results are the recorded ones at all. Any change that is meant, of a
quantizer for a better one too, turns it red, and only rounding in the float parts of the model does not. Then read the
other two: where they pass or tell of a better model, it got no worse by what they catch, and can be recorded anew.

Exact, in every dtype, are the formats of the layers by name, the bits of what a quantized model keeps in floats, and
the weights of the unquantized one.

{power_table(model.thresholds, model.name)}
"""


def with_bound(count: int) -> str:
    """A count of `RUNS`, and the rate that it rules out to be exceeded at 95 % confidence (Clopper-Pearson)."""
    bound = binomtest(count, RUNS, alternative="less").proportion_ci(0.95).high
    return f"{count}, rate below {bound:.1e}"


def simulated() -> str:
    """False alarms and misses at the rate that is used."""
    rows = []
    for name, case in CASES.items():
        rates = simulate(RUNS, seed=2, **case)
        counts = (rates.regression, rates.inconclusive, rates.missed)
        rows.append((name, f"{RUNS:,}", *(with_bound(round(rate * RUNS)) for rate in counts)))
    return table(("case", "runs", "false regression", "false inconclusive", "missed"), rows)


def planted(results: Sequence[tuple[str, GateResult]]) -> str:
    """Every planted fault's verdicts, with the figures."""
    parts = []
    for name, result in results:
        lines = "\n".join(f"- {check.text}" for check in result.checks)
        parts.append(f"**{name}**, {result.scheme}: {result.verdict.value}\n\n{lines}\n")
    return "\n".join(parts)


def caught(results: Sequence[tuple[str, GateResult]]) -> str:
    """Which check saw which planted fault, and how many each."""
    names = [check.name for check in results[0][1].checks]
    verdicts = [[check.verdict for check in result.checks] for _, result in results]
    rows = [
        (f"{name}, {result.scheme}", *(verdict.value.replace("pass", "-") for verdict in row))
        for (name, result), row in zip(results, verdicts, strict=True)
    ]
    seen = [sum(verdict is Verdict.REGRESSION for verdict in column) for column in zip(*verdicts, strict=True)]
    rows.append((f"**seen, of {len(results)}**", *(f"**{count}**" for count in seen)))
    return table(("planted fault", *names), rows)


def simulation_of(document: str) -> str:
    """The table of simulations that `document` has."""
    section = document.split(SIMULATED)[1].split(FAULTS, maxsplit=1)[0]
    return section[section.index("| case") :]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.accuracy.power", description=str(__doc__).split("\n")[0])
    parser.add_argument("--keep-simulation", action="store_true", help="do not simulate again")
    keep = parser.parse_args().keep_simulation
    simulation = simulation_of(DOCUMENT.read_text(encoding="utf-8")) if keep else f"{simulated()}\n"
    model = GatedModel("reference", None, "cpu", THRESHOLDS)
    results = [(plant.__name__.replace("_", " "), model.judge(scheme, plant(scheme))) for plant, scheme, _ in PLANTED]
    text = f"""{power_section(model)}## Which check sees what

Of the faults planted below. Do not trust the perplexity ratio alone: a fault that costs less than the text can tell is
invisible to it, and so is one that makes the model a little better.

{caught(results)}
{SIMULATED}

An equally good quantizer held to a recorded one's threshold, and one worse by the margin, with 64 windows, or
24, of heavy-tailed errors: how often the first is not passed and the second is. At most {FALSE_ALARM:g} is promised
of each, which would be {RUNS * FALSE_ALARM:.0f} of {RUNS:,}. Beside each count is the rate that it rules out, at 95 %
confidence: where that lies above what is promised, the runs agree with the promise and do not prove it.

{simulation}{FAULTS}

Faults that libraries have shipped, in the embedded model (`tests/accuracy/planted.py`). Every one must be a regression.

{planted(results)}"""
    DOCUMENT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
