"""`python -m tests.accuracy.held_out`: whether the embedded model's perplexity on the whole of its held-out text is the
one of its training record.

These are 106,793 tokens, which take 20 s of a core: of every night, not of every run of the suite, which holds the
files of the model to the bytes that were measured.
"""

import json
import math
import sys

import torch

from quant import reference_model
from quant.evaluate.perplexity import perplexity
from quant.evaluate.windows import TokenWindows
from quant.integrations.transformers import load_model, load_tokenizer, tokenize

TOLERANCE = 1e-6
"""Relative. The same arithmetic with other batch shapes and another windowing code; float noise measured at 4e-9."""


def main() -> int:
    """Print both figures. Returns the exit code: 0 where they agree."""
    recorded = json.loads((reference_model.FOLDER / "training.json").read_text(encoding="utf-8"))["held_out_perplexity"]
    ids = tokenize(load_tokenizer(reference_model.FOLDER), reference_model.held_out_text())
    measured = perplexity(load_model(reference_model.FOLDER, torch.float32), TokenWindows(ids, reference_model.WINDOW))
    sys.stdout.write(f"perplexity of {len(ids):,} tokens: recorded {recorded}, measured {measured}\n")
    return int(not math.isclose(measured, recorded, rel_tol=TOLERANCE))


if __name__ == "__main__":
    sys.exit(main())
