"""The embedded model is the one of its training record, reads as English, and shows what the formats differ in."""

import hashlib
import json
import re

import torch
from scipy.stats import t

from quant import reference_model
from quant.evaluate.statistics import windowed_mean
from quant.gated_model import GatedModel
from quant.integrations.transformers import load_model, load_tokenizer, tokenize


def test_four_bits_visibly_cost_perplexity_and_eight_do_not(gated_model: GatedModel) -> None:
    """In the recorded windows, which the gates hold the model to: 99.9 % of the intervals of Student's t hold the cost.

    Measured: NF4's is 3.9 standard errors, the least that it may be 30 times what W8A16 costs.
    """
    w8a16, nf4 = (gated_model.thresholds.read(gated_model.name, scheme).windows for scheme in ("w8a16", "nf4"))
    eight, four = (windowed_mean(found.excess * found.tokens, found.tokens, 1) for found in (w8a16, nf4))
    least = four.value - float(t.ppf(0.9995, four.degrees_of_freedom)) * four.standard_error
    assert least > 0
    assert abs(eight.value) < least
    assert bool((nf4.kl > w8a16.kl).all())


def test_the_shipped_model_is_the_one_whose_perplexity_was_recorded() -> None:
    """Byte by byte, with its tokenizer and its text. That `quant.evaluate` measures what the training records is held
    in small (`tests/unit/test_training.py`), and on these 106,793 tokens by `python -m tests.accuracy.held_out`.
    """
    record = json.loads((reference_model.FOLDER / "training.json").read_text(encoding="utf-8"))
    assert len(record["sha256"]) == 3
    for name, digest in record["sha256"].items():
        assert hashlib.sha256((reference_model.FOLDER / name).read_bytes()).hexdigest() == digest, name
    ids = tokenize(load_tokenizer(reference_model.FOLDER), reference_model.held_out_text())
    assert len(ids) == record["held_out_tokens"]


def test_it_reads_as_english() -> None:
    """Greedy text from the beginning-of-text token is made of words that the held-out speeches use too.

    It is the same text everywhere: the two likeliest tokens are 0.027 apart or more, and with AVX-512, without vectors,
    and with torch 2.6, 2.13 and 2.14 the least of these distances agree to 2e-6.
    """
    model = load_model(reference_model.FOLDER, torch.float32)
    tokenizer = load_tokenizer(reference_model.FOLDER)
    start = torch.tensor([[tokenizer.bos_token_id]])
    output = model.generate(
        start, attention_mask=torch.ones_like(start), do_sample=False, min_new_tokens=64, max_new_tokens=64
    )
    *words, _ = re.findall(r"\w+", tokenizer.decode(output[0], skip_special_tokens=True))
    assert len(words) == 54
    assert set(words) - set(re.findall(r"\w+", reference_model.held_out_text())) == set()
