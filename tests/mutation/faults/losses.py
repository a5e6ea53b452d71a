"""Mistakes in measuring predictions: windows, losses, divergence (`quant/evaluate`)."""

from tests.mutation.fault import Fault

BASELINE = "tests/unit/evaluate/test_baseline.py"
DIVERGENCE = "tests/unit/evaluate/test_divergence.py"
LIMITS = "tests/unit/evaluate/test_limits.py"
PERPLEXITY = "tests/unit/evaluate/test_perplexity.py"
ROWS = "tests/unit/evaluate/test_rows.py"
WINDOWS = "tests/unit/evaluate/test_windows.py"

FAULTS = (
    Fault(
        "labels-are-not-shifted",
        "evaluate/windows.py",
        "windows.ids[first : end + 1].to(device)",
        "windows.ids[first - 1 : end].to(device)",
        f"{PERPLEXITY}::test_the_successor_model_has_perplexity_exactly_one",
    ),
    Fault(
        "stride-off-by-one",
        "evaluate/windows.py",
        "end + 1, start + stride",
        "end + 1, start + stride + 1",
        f"{WINDOWS}::test_each_position_is_scored_once_with_the_promised_context",
    ),
    Fault(
        "overlap-is-scored-twice",
        "evaluate/windows.py",
        "first, start = end + 1, start + stride",
        "start = start + stride\n            first = start + 1",
        f"{WINDOWS}::test_each_position_is_scored_once_with_the_promised_context",
    ),
    Fault(
        "bos-before-the-first-window-only",
        "evaluate/windows.py",
        "            if self.bos_id is not None:\n",
        "            if self.bos_id is not None and position == 0:\n",
        f"{WINDOWS}::test_each_position_is_scored_once_with_the_promised_context",
    ),
    Fault(
        "short-window-is-padded",
        "evaluate/windows.py",
        "            group = [s for s in spans[position : position + batch_size] if s[2] - s[0] == length]\n"
        "            rows = [self.ids[start:end] for start, _, end in group]\n",
        "            group = spans[position : position + batch_size]\n"
        "            rows = [torch.nn.functional.pad(self.ids[a:b], (0, length - b + a)) for a, _, b in group]\n",
        f"{WINDOWS}::test_windows_of_equal_length_share_a_call_and_nothing_is_padded",
    ),
    Fault(
        "bos-does-not-count-towards-the-window",
        "evaluate/windows.py",
        "return self.window - self._prefix",
        "return self.window",
        f"{WINDOWS}::test_each_position_is_scored_once_with_the_promised_context",
    ),
    Fault(
        "bos-shifts-the-scores",
        "evaluate/windows.py",
        "begin = first - 1 - start + windows._prefix",
        "begin = first - 1 - start",
        f"{WINDOWS}::test_each_position_is_scored_once_with_the_promised_context",
    ),
    Fault(
        "last-window-is-dropped",
        "evaluate/windows.py",
        "while position < len(spans):",
        "while position < len(spans) - 1:",
        f"{WINDOWS}::test_each_position_is_scored_once_with_the_promised_context",
    ),
    Fault(
        "last-token-is-dropped",
        "evaluate/windows.py",
        "while first <= self.scored:",
        "while first < self.scored:",
        f"{WINDOWS}::test_each_position_is_scored_once_with_the_promised_context",
    ),
    Fault(
        "windows-of-other-lengths-share-a-call",
        "evaluate/windows.py",
        " if s[2] - s[0] == length]",
        "]",
        f"{WINDOWS}::test_each_position_is_scored_once_with_the_promised_context",
    ),
    Fault(
        "dropout-stays-on",
        "evaluate/windows.py",
        "    model.eval()\n    try:",
        "    try:",
        f"{WINDOWS}::test_evaluating_switches_training_and_gradients_off_and_restores_each_module",
    ),
    Fault(
        "training-flag-is-not-restored",
        "evaluate/windows.py",
        "module.training = True",
        "module.training = False",
        f"{WINDOWS}::test_evaluating_switches_training_and_gradients_off_and_restores_each_module",
    ),
    Fault(
        "hash-in-the-machine-s-other-byte-order",
        "evaluate/windows.py",
        'astype("<i8")',
        'astype(">i8")',
        f"{WINDOWS}::test_the_hash_is_of_the_ids_as_little_endian_int64",
    ),
    Fault(
        "window-longer-than-the-positions",
        "evaluate/limits.py",
        "limit is not None and length > limit",
        "limit is not None and length > limit + 1",
        f"{LIMITS}::test_as_many_tokens_as_positions_fit_and_one_more_does_not",
    ),
    Fault(
        "bos-outside-the-vocabulary",
        "evaluate/limits.py",
        "largest = max(int(ids.max()), bos_id or 0)",
        "largest = int(ids.max())",
        f"{LIMITS}::test_the_largest_id_is_one_less_than_the_vocabulary",
    ),
    Fault(
        "losses-in-float32",
        "evaluate/perplexity.py",
        "logits = logits.double()",
        "logits = logits.float()",
        f"{PERPLEXITY}::test_losses_equal_the_loops_for_every_window_and_stride",
    ),
    Fault(
        "nan-logits-are-averaged",
        "evaluate/perplexity.py",
        "if not bool(torch.isfinite(normaliser).all()):",
        "if bool(torch.isinf(normaliser).all()):",
        f"{PERPLEXITY}::test_the_model_is_left_as_it_was_after_an_error",
    ),
    Fault(
        "perplexity-of-one-token-less",
        "evaluate/perplexity.py",
        "/ losses.numel()",
        "/ (losses.numel() - 1)",
        f"{PERPLEXITY}::test_a_uniform_model_has_the_perplexity_of_its_vocabulary",
    ),
    Fault(
        "perplexity-in-bits",
        "evaluate/perplexity.py",
        "return exp(float(losses.double().sum()) / losses.numel())",
        "return 2.0 ** (float(losses.double().sum()) / losses.numel())",
        f"{PERPLEXITY}::test_a_uniform_model_has_the_perplexity_of_its_vocabulary",
    ),
    Fault(
        "divergence-the-other-way-round",
        "evaluate/divergence.py",
        "by_rows(_kl_divergence, baseline, logits)",
        "by_rows(_kl_divergence, logits, baseline)",
        f"{DIVERGENCE}::test_direction_is_from_the_baseline_to_the_model",
    ),
    Fault(
        "divergence-in-float32",
        "evaluate/divergence.py",
        "log_p = baseline.double().log_softmax(dim=-1)",
        "log_p = baseline.float().log_softmax(dim=-1).double()",
        f"{DIVERGENCE}::test_direction_is_from_the_baseline_to_the_model",
    ),
    Fault(
        "divergence-of-masked-tokens-is-nan",
        "evaluate/divergence.py",
        "torch.where(p > 0, p * (log_p - log_q), 0.0)",
        "(p * (log_p - log_q))",
        f"{DIVERGENCE}::test_tokens_that_both_models_rule_out_add_nothing",
    ),
    Fault(
        "top1-of-a-threshold",
        "evaluate/divergence.py",
        "return baseline.argmax(dim=-1) == logits.argmax(dim=-1)",
        "return baseline.amax(dim=-1) == logits.amax(dim=-1)",
        f"{DIVERGENCE}::test_top1_compares_the_largest_logits_and_ties_go_to_the_lowest_token",
    ),
    Fault(
        "baseline-logits-kept-in-16-bit",
        "evaluate/divergence.py",
        "kept.append(logits.cpu().clone())",
        "kept.append(logits.cpu().half())",
        f"{BASELINE}::test_kept_and_recomputed_logits_give_the_same_bits",
    ),
    Fault(
        "logits-that-just-fit-are-recomputed",
        "evaluate/divergence.py",
        "size <= limit_bytes else None\n",
        "size < limit_bytes else None\n",
        f"{BASELINE}::test_logits_are_kept_up_to_the_limit_and_not_beyond",
    ),
    Fault(
        "baseline-recomputed-in-training-mode",
        "evaluate/divergence.py",
        "evaluating(self._model) if self.keeps_model else nullcontext()",
        "nullcontext()",
        f"{BASELINE}::test_a_baseline_in_training_mode_is_recomputed_in_evaluation_mode",
    ),
    Fault(
        "rows-in-pieces-lose-the-rest",
        "evaluate/rows.py",
        "torch.tensor_split(tensor, pieces)",
        "tensor[: len(tensor) // pieces * pieces].split(len(tensor) // pieces or 1)",
        f"{ROWS}::test_pieces_of_any_size_have_the_bits_of_the_whole",
    ),
)
