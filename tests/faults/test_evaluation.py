"""Faults of evaluation (E1 to E9) in the parts that no other test holds."""

import torch

from quant import reference_model
from quant.evaluate.perplexity import stream_losses
from quant.evaluate.windows import TokenWindows
from quant.integrations.transformers import load_tokenizer, tokenize
from tests.fakes import loss_tolerance
from tests.models import tiny_phi3, tokens

FLOAT32_ROUNDINGS = 2.0**29
"""How many roundings to float64 are one to float32."""


def test_e5_our_shift_of_labels_is_the_model_s_own() -> None:
    """The model shifts by itself and averages in float32: as far off as `loss_tolerance` says for that precision, and
    the same for losses of t + 2 or of t itself is not within it.
    """
    model, ids = tiny_phi3(), tokens(1, 40)
    with torch.no_grad():
        output = model(input_ids=ids, labels=ids)
    tolerance = loss_tolerance(output.logits[0]) * FLOAT32_ROUNDINGS
    ours = stream_losses(model, TokenWindows(ids[0], 64)).mean()
    assert abs(output.loss.double() - ours) <= tolerance
    for shift in (0, 2):
        rows = output.logits[0, : 40 - shift].double().log_softmax(-1)
        other = -rows.gather(-1, ids[0, shift:, None]).mean()
        assert abs(other - ours) > 100 * tolerance


def test_e6_the_embedded_text_has_the_tokens_that_it_had() -> None:
    """Every perplexity that is written down somewhere is of these tokens: tokenizing with what is installed must give
    them, whatever version that is.
    """
    ids = tokenize(load_tokenizer(reference_model.FOLDER), reference_model.held_out_text())
    windows = TokenWindows(ids, reference_model.WINDOW)
    assert windows.scored == 106_792
    assert windows.sha256 == "899841c46b8f02f3c1ee0a666ea1aaa309fe5f490d78cedb2a2c22bc20554670"
