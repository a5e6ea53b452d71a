"""A small comparison to run, and its numbers computed a second time from the models' logits, term by term."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, Phi3ForCausalLM

from quant.convert import quantize
from quant.evaluate.windows import TokenWindows
from quant.records import Request
from quant.schemes import Scheme
from tests.fakes import expected_kl, log_sum_exp

WINDOW = 24
TOKENS = 24 * 24 + 7
"""24 full windows and a short one, enough for an interval."""
NEW_TOKENS = 3
Rows = list[list[float]]


def make_request(folder: Path, text: Path, **changes: Any) -> Request:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor(tokenizer(text.read_text(encoding="utf-8"), add_special_tokens=False)["input_ids"][:TOKENS])
    request = Request(
        model="tiny",
        folder=folder,
        dtype=torch.float32,
        windows=TokenWindows(ids, WINDOW),
        tokenizer=tokenizer,
        batch_size=1,
        prompt_tokens=5,
        new_tokens=NEW_TOKENS,
        repeats=1,
        seconds=0,
        schemes=("w8a16", "nf4"),
    )
    return dataclasses.replace(request, **changes)


def short_request(folder: Path, text: Path, **changes: Any) -> Request:
    """For tests that only look at which records there are: 40 tokens, two windows."""
    request = make_request(folder, text, new_tokens=2, **changes)
    return dataclasses.replace(request, windows=TokenWindows(request.windows.ids[:40], WINDOW))


def load(request: Request, scheme: Scheme | None) -> Any:
    """The model of `request`, quantized by `scheme`."""
    model: Any = Phi3ForCausalLM.from_pretrained(request.folder, dtype=torch.float32).eval()
    return model if scheme is None else quantize(model, scheme)


def direct_rows(request: Request, scheme: Scheme | None) -> Rows:
    """Logits for every token from the second on as float64 lists; in calls of the same shape as the comparison's, so
    that they are the same to the bit: `batch_size` full windows at a time, then the short one.
    """
    model = load(request, scheme)
    inputs = request.windows.ids[:-1]
    full = inputs[: len(inputs) // WINDOW * WINDOW].view(-1, WINDOW)
    rows: Rows = []
    with torch.inference_mode():
        for batch in (*torch.split(full, request.batch_size), inputs[full.numel() :][None]):
            rows += model(input_ids=batch, use_cache=False).logits.flatten(0, 1).double().tolist()
    return rows


def losses_of(rows: Rows, ids: Tensor) -> list[float]:
    return [log_sum_exp(row) - row[target] for row, target in zip(rows, ids[1:].tolist(), strict=True)]


def kls_of(p_rows: Rows, q_rows: Rows) -> list[float]:
    return [expected_kl(p, q) for p, q in zip(p_rows, q_rows, strict=True)]


def agreement(p_rows: Rows, q_rows: Rows) -> float:
    """index() finds the first of equal values, so ties go to the lowest token."""
    return sum(p.index(max(p)) == q.index(max(q)) for p, q in zip(p_rows, q_rows, strict=True)) / len(p_rows)
