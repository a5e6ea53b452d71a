"""The registered schemes as the contract tests take them: none of which nobody has measured what it costs.

A scheme is registered by its entry in `quant.schemes.SCHEMES`. `tests/contract/battery` runs for each of them, and
collecting it fails where one has no figures, so that a new scheme cannot pass for want of anything to hold it to.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from quant.schemes import SCHEMES, Scheme
from tests import measured
from tests.strategies import scheme_id

GATED: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "accuracy" / "thresholds.json").read_text(encoding="utf-8")
)["thresholds"]["reference"]
"""Name -> thresholds of each scheme that the accuracy gate holds the embedded model to."""
MISSING = (
    "registered in quant.schemes.SCHEMES, but without figures: {names}. Measure what it costs with python -m "
    "tests.measured, which prints the tables of tests/measured.py with it: write them there; and let pytest "
    "tests/accuracy/test_gates.py --update-thresholds write tests/accuracy/thresholds.json"
)


def schemes_with_thresholds() -> set[str]:
    """Names of the registered schemes that every table of thresholds holds figures of. A new table is added here."""
    by_id = (measured.EFFECTS["phi3"], measured.EFFECTS["gpt2"], measured.DECODING)
    by_name = (measured.VARIANT_KL, GATED)
    return {
        name
        for name, scheme in SCHEMES.items()
        if all(scheme_id(scheme) in table for table in by_id) and all(name in table for table in by_name)
    }


def registered_schemes() -> dict[str, Scheme]:
    """Name -> scheme of all registered schemes.

    Raises:
        pytest.Collector.CollectError: one has no thresholds; the message names it and the command that measures.
    """
    without = [name for name in SCHEMES if name not in schemes_with_thresholds()]
    if without:
        raise pytest.Collector.CollectError(MISSING.format(names=", ".join(without)))
    return dict(SCHEMES)
