"""`python -m tests.unit.gpu.derive`: write tests/gpu/references.json, the limits of the suite marked `gpu`.

Of Phi-3-mini there is only the original report: perplexities before and after, printed to so many digits, of an unknown
text on unknown hardware, W8A16 in float32. Nothing of it has been measured by this suite: no weights were at hand. So

* r, the logarithm of the perplexity ratio, lies between what the printed digits allow, r_low and r_high;
* on another text it may be F times that or less by as much. On the embedded model, in whose KL divergence between
  texts no luck cancels or adds, F was 3.4 at most (W8A16, NF4, FP4 and LLM.int8 on held-out speeches, perplexity 34; on
  its own samples at three temperatures, 34 to 5.5; on this repository's English and its Python, 1100 and 1480);
* r / KL was 0.56 to 1.41 for NF4 and FP4 on the texts that it knows, the speeches and the samples, and 1.2 to 13 for
  W8A16 and LLM.int8, whose loss is nearly all luck: what a slightly moved model gains here and loses there;
* top-1 agreement is 1 - c sqrt(KL), c from 0.59 to 0.70 on the embedded model (the six schemes of thresholds.json, from
  W8A16's KL of 4e-5 to FP4's of 1e-2); another model's may be twice or half that.

Sampling adds to that and is the gate's matter: a figure must lie inside by q standard errors of its own. This suite
measures in float32 as the original did; in bfloat16 rounding alone moves losses by more than W8A16's r.

The sign of W8A16's r is therefore not held, and its size may be F times F of the original's: what holds W8A16 is its KL
divergence. The original's LLM.int8 lost a hundred times what W8A16 did, which the embedded model does not show (4 to 10
times): it is held from above by that, and from below by W8A16's least KL, whose rounding of the weights it shares.

The embedded model's limits are the margins of tests/accuracy/thresholds.json around its figures; bitsandbytes' NF4 and
FP4 have the codes of ours and so those limits too.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

from quant.evaluate.recording import margin, quantile
from quant.evaluate.statistics import WindowedMean
from quant.evaluate.thresholds import Threshold, ThresholdFile
from quant.inspection import size_model
from quant.sources import build_for_sizing
from tests.gpu.measuring import SCHEMES
from tests.gpu.references import FILE

SPREAD = 3.5
"""F."""
LUCK = {"8": (1.2, 13.0), "4": (0.56, 1.41)}
"""r / KL by the bits of a weight."""
AGREEMENT = (0.59, 0.70)
"""c."""
PHI_3_MINI = {
    "w8a16": ("3.049601", "3.050290"),
    "nf4": ("3.05", "3.17"),
    "nf4-dq": ("3.05", "3.17"),
    "bnb-int8": ("3.05", "3.13"),
    "bnb-fp4": ("3.05", "3.31"),
    "bnb-nf4": ("3.05", "3.17"),
}
"""Perplexity before and after as printed. Its "4-bit" is bitsandbytes' default, FP4."""
ORIGINAL = {
    "baseline": ("15.57", "0.00", "8.1272", "3.05"),
    "w8a16": ("-", "-", "221.07", "3.050290"),
    "bnb-int8": ("3.24", "3.78", "2.3598", "3.13"),
    "bnb-fp4": ("3.76", "2.28", "1.1650", "3.31"),
    "bnb-nf4": ("4.94", "0.78", "1.4796", "3.17"),
}
"""CPU GB, GPU GB, latency s, perplexity. W8A16 took 27.68 s before, for another text."""
LIKE = {"bnb-fp4": "fp4", "bnb-nf4": "nf4"}
INT8_LOG_RATIO, INT8_KL, INT8_TOP1 = (1.855e-4, 1.3e-4), (1.262e-4, 1.3e-6), 0.9923
"""LLM.int8 on the embedded model, with standard errors, on the tokens of the thresholds; top1 of all the held-out text
(README).
"""
TOKENS = 16384
WINDOWS = 64
ACCURACY = Path(__file__).parents[2] / "accuracy" / "thresholds.json"


def digits(printed: str) -> float:
    """Half a unit of the last digit."""
    return 0.5 * 10.0 ** -len(printed.partition(".")[2])


def phi_3_mini(scheme: str) -> dict[str, Any]:
    """The entry of `scheme`, from the original's perplexities."""
    before, after = PHI_3_MINI[scheme]
    (p, u), (q, v) = ((float(printed), digits(printed)) for printed in (before, after))
    low, high = math.log((q - v) / (p + u)), math.log((q + v) / (p - u))
    least, most = LUCK["8" if scheme in ("w8a16", "bnb-int8") else "4"]
    ratio, kl = (low / SPREAD, high * SPREAD), (low / (most * SPREAD), high * SPREAD / least)
    why = f"r from {low:.3g} to {high:.3g}"
    if scheme == "w8a16":
        ratio = (-high * SPREAD**2, high * SPREAD**2)
        why += "; its sign is not held"
    if scheme == "bnb-int8":
        ratio, kl = (-high / SPREAD, high), (phi_3_mini("w8a16")["kl"][0], kl[1])
        why += "; from above only, for it is a hundred times W8A16's; the least KL of that"
    # Of all tokens none may be left to agree on: the square root is for small divergences.
    top1 = (max(0.0, 1 - 2 * AGREEMENT[1] * math.sqrt(kl[1])), 1 - AGREEMENT[0] / 2 * math.sqrt(kl[0]))
    change = {"perplexity": [before, after], "relative_change": q / p - 1}
    return change | limits(ratio, kl, top1) | {"why": why}


def embedded(scheme: str) -> dict[str, Any]:
    """The entry of `scheme`, from what is recorded of the embedded model."""
    if scheme == "bnb-int8":
        (ratio, ratio_error), (kl, kl_error), top1 = INT8_LOG_RATIO, INT8_KL, INT8_TOP1
        margins = [margin(WindowedMean(0, error, WINDOWS - 1)) for error in (ratio_error, kl_error)]
        why = "measured as thresholds are, on a CPU with AVX-512 and AMX, 2026-11-28, and margins derived as theirs"
    else:
        name = LIKE.get(scheme, scheme)
        recorded: Threshold = ThresholdFile(ACCURACY).read("reference", name)
        ratio, kl, top1 = math.log(recorded.perplexity_ratio), recorded.kl, recorded.top1_agreement
        margins = [recorded.perplexity_margin, recorded.kl_margin]
        why = f"tests/accuracy/thresholds.json, {name}"
    # Disagreements are counted, and a window's are as good as independent.
    reach = 2 * quantile(WINDOWS - 1) * math.sqrt(top1 * (1 - top1) / TOKENS) * 1.3
    ratio_margin, kl_margin = margins
    around_ratio, around_kl = (ratio - ratio_margin, ratio + ratio_margin), (kl - kl_margin, kl + kl_margin)
    change = {"relative_change": math.expm1(ratio)}
    return change | limits(around_ratio, around_kl, (top1 - reach, top1 + reach)) | {"why": why}


def limits(ratio: tuple[float, float], kl: tuple[float, float], top1: tuple[float, float]) -> dict[str, list[float]]:
    """As `tests.gpu.references.Limits` reads them, in four digits."""
    pairs = {"log_ratio": ratio, "kl": kl, "top1": top1}
    return {name: [float(f"{value:.4g}") for value in pair] for name, pair in pairs.items()}


def parameter_bytes(model: str) -> dict[str, int]:
    """Scheme -> bytes in float32, from the configuration; bitsandbytes' as those of ours that store as much, with a
    table of 16 float32 in every layer of 4 bits, and without the tag of 4 bytes that ours has there.
    """
    found = {}
    for scheme in ("baseline", *SCHEMES):
        ours = {"bnb-int8": "w8a16"}.get(scheme, LIKE.get(scheme, scheme))
        skeleton, dtype = build_for_sizing(model, "float32")
        sizing = size_model(skeleton, model, dtype, None if scheme == "baseline" else ours)
        after = sizing.after or sizing.before
        found[scheme] = after.size.parameter_bytes + (64 - 4) * after.quantized_layers * (scheme in LIKE)
    return found


def derive() -> dict[str, Any]:
    """All of references.json."""
    return {
        "derivation": "python -m tests.unit.gpu.derive",
        "models": {
            "Phi-3-mini-4k-instruct": {
                "source": "the report that this project grew out of: text, prompt and hardware unknown; not "
                "measured by this suite yet, whose own figures are recorded with --update-thresholds",
                "original": {scheme: list(cells) for scheme, cells in ORIGINAL.items()},
                "parameter_bytes": parameter_bytes("phi-3-mini"),
                "schemes": {scheme: phi_3_mini(scheme) for scheme in SCHEMES},
            },
            "reference": {
                "source": "the embedded model and text, float32, 16,384 tokens in windows of 256",
                "original": {},
                "parameter_bytes": parameter_bytes("reference"),
                "schemes": {scheme: embedded(scheme) for scheme in SCHEMES},
            },
        },
    }


def written(content: dict[str, Any]) -> str:
    """As JSON, a line for each list."""
    text = json.dumps(content, indent=1)
    return re.sub(r"\[\s+[^][{}]*?\s+\]", lambda found: re.sub(r"\s+", " ", found[0]), text) + "\n"


if __name__ == "__main__":
    FILE.write_text(written(derive()), encoding="utf-8")
