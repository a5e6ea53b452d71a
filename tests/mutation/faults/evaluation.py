"""Mistakes in measuring: `quant/evaluate`."""

from tests.mutation.fault import Fault

EVALUATE = "tests/unit/evaluate"
WINDOWS = f"{EVALUATE}/test_windows.py"
PERPLEXITY = f"{EVALUATE}/test_perplexity.py"
DIVERGENCE = f"{EVALUATE}/test_divergence.py"
BASELINE = f"{EVALUATE}/test_baseline.py"
STATISTICS = f"{EVALUATE}/test_statistics.py"
FOOTPRINT = f"{EVALUATE}/test_footprint.py"
GENERATION = f"{EVALUATE}/test_generation.py"
FINGERPRINT = f"{EVALUATE}/test_fingerprint.py"
PAIRED = f"{EVALUATE}/test_paired.py"

FAULTS = (
    Fault(
        "labels-are-not-shifted",
        "evaluate/windows.py",
        "windows.ids[first : end + 1].to(device)",
        "windows.ids[first - 1 : end].to(device)",
        (PERPLEXITY,),
    ),
    Fault(
        "stride-off-by-one", "evaluate/windows.py", "end + 1, start + stride", "end + 1, start + stride + 1", (WINDOWS,)
    ),
    Fault(
        "overlap-is-scored-twice",
        "evaluate/windows.py",
        "first, start = end + 1, start + stride",
        "start = start + stride\n            first = start + 1",
        (WINDOWS,),
    ),
    Fault(
        "bos-before-the-first-window-only",
        "evaluate/windows.py",
        "            if self.bos_id is not None:\n",
        "            if self.bos_id is not None and position == 0:\n",
        (WINDOWS, PERPLEXITY),
    ),
    Fault(
        "bos-does-not-count-towards-the-window",
        "evaluate/windows.py",
        "return self.window - self._prefix",
        "return self.window",
        (WINDOWS,),
    ),
    Fault(
        "bos-shifts-the-scores",
        "evaluate/windows.py",
        "begin = first - 1 - start + windows._prefix",
        "begin = first - 1 - start",
        (WINDOWS, PERPLEXITY),
    ),
    Fault(
        "last-window-is-dropped",
        "evaluate/windows.py",
        "while position < len(spans):",
        "while position < len(spans) - 1:",
        (WINDOWS, PERPLEXITY),
    ),
    Fault(
        "last-token-is-dropped",
        "evaluate/windows.py",
        "while first <= self.scored:",
        "while first < self.scored:",
        (WINDOWS, PERPLEXITY),
    ),
    Fault(
        "windows-of-other-lengths-share-a-call",
        "evaluate/windows.py",
        " if s[2] - s[0] == length]",
        "]",
        (WINDOWS, PERPLEXITY),
    ),
    Fault("dropout-stays-on", "evaluate/windows.py", "    model.eval()\n    try:", "    try:", (WINDOWS, PERPLEXITY)),
    Fault(
        "training-flag-is-not-restored",
        "evaluate/windows.py",
        "module.training = True",
        "module.training = False",
        (WINDOWS, PERPLEXITY),
    ),
    Fault(
        "hash-in-the-machine-s-other-byte-order", "evaluate/windows.py", 'astype("<i8")', 'astype(">i8")', (WINDOWS,)
    ),
    Fault(
        "window-longer-than-the-positions",
        "evaluate/limits.py",
        "limit is not None and length > limit",
        "limit is not None and length > limit + 1",
        (f"{EVALUATE}/test_limits.py", WINDOWS),
    ),
    Fault(
        "bos-outside-the-vocabulary",
        "evaluate/limits.py",
        "largest = max(int(ids.max()), bos_id or 0)",
        "largest = int(ids.max())",
        (f"{EVALUATE}/test_limits.py", WINDOWS),
    ),
    Fault(
        "losses-in-float32",
        "evaluate/perplexity.py",
        "logits = logits.double()",
        "logits = logits.float()",
        (PERPLEXITY,),
    ),
    Fault(
        "nan-logits-are-averaged",
        "evaluate/perplexity.py",
        "if not bool(torch.isfinite(normaliser).all()):",
        "if bool(torch.isinf(normaliser).all()):",
        (PERPLEXITY,),
    ),
    Fault(
        "perplexity-of-one-token-less",
        "evaluate/perplexity.py",
        "/ losses.numel()",
        "/ (losses.numel() - 1)",
        (PERPLEXITY,),
    ),
    Fault("perplexity-in-bits", "evaluate/perplexity.py", "return math.exp(mean)", "return 2.0**mean", (PERPLEXITY,)),
    Fault(
        "divergence-the-other-way-round",
        "evaluate/divergence.py",
        "by_rows(_kl_divergence, baseline, logits)",
        "by_rows(_kl_divergence, logits, baseline)",
        (DIVERGENCE,),
    ),
    Fault(
        "divergence-in-float32",
        "evaluate/divergence.py",
        "log_p = baseline.double().log_softmax(dim=-1)",
        "log_p = baseline.float().log_softmax(dim=-1).double()",
        (DIVERGENCE,),
    ),
    Fault(
        "divergence-of-masked-tokens-is-nan",
        "evaluate/divergence.py",
        "torch.where(p > 0, p * (log_p - log_q), 0.0)",
        "(p * (log_p - log_q))",
        (DIVERGENCE,),
    ),
    Fault(
        "top1-of-a-threshold",
        "evaluate/divergence.py",
        "return baseline.argmax(dim=-1) == logits.argmax(dim=-1)",
        "return baseline.amax(dim=-1) == logits.amax(dim=-1)",
        (DIVERGENCE,),
    ),
    Fault(
        "baseline-logits-kept-in-16-bit",
        "evaluate/divergence.py",
        "kept.append(logits.cpu().clone())",
        "kept.append(logits.cpu().half())",
        (BASELINE,),
    ),
    Fault(
        "logits-that-just-fit-are-recomputed",
        "evaluate/divergence.py",
        "size <= limit_bytes else None\n",
        "size < limit_bytes else None\n",
        (BASELINE,),
    ),
    Fault(
        "baseline-recomputed-in-training-mode",
        "evaluate/divergence.py",
        "evaluating(self._model) if self.keeps_model else nullcontext()",
        "nullcontext()",
        (BASELINE,),
    ),
    Fault(
        "mean-of-means",
        "evaluate/statistics.py",
        "mean = float(sums.sum() / counts.sum())",
        "mean = float((sums / counts).mean())",
        (STATISTICS,),
    ),
    Fault("interval-too-narrow", "evaluate/statistics.py", "CONFIDENCE = 0.95", "CONFIDENCE = 0.90", (STATISTICS,)),
    Fault("interval-too-wide", "evaluate/statistics.py", "CONFIDENCE = 0.95", "CONFIDENCE = 0.99", (STATISTICS,)),
    Fault(
        "windows-resampled-as-independent",
        "evaluate/statistics.py",
        "length = 1 if math.isnan(block) else min(max(1, math.ceil(block)), len(sums) // 2)",
        "length = 1",
        (STATISTICS,),
    ),
    Fault(
        "interval-of-another-seed-each-time", "evaluate/statistics.py", "counts, seed=SEED)", "counts)", (STATISTICS,)
    ),
    Fault(
        "interval-from-too-few-windows",
        "evaluate/statistics.py",
        "if len(sums) < MIN_WINDOWS:",
        "if len(sums) < 2:",
        (STATISTICS,),
    ),
    Fault(
        "tokens-resampled-instead-of-windows",
        "evaluate/statistics.py",
        "    sums = _window_sums(values, window_of_token)\n",
        "    window_of_token = torch.arange(len(values))\n    sums = _window_sums(values, window_of_token)\n",
        (STATISTICS,),
    ),
    Fault(
        "tied-weights-counted-twice",
        "evaluate/footprint.py",
        "if storage._cdata not in seen:",
        "if id(tensor) not in seen:",
        (FOOTPRINT,),
    ),
    Fault(
        "only-the-view-is-counted",
        "evaluate/footprint.py",
        "total += storage.nbytes()",
        "total += tensor.nbytes",
        (FOOTPRINT,),
    ),
    Fault(
        "codes-counted-as-buffers",
        "evaluate/footprint.py",
        "if isinstance(module, QuantizedLinear):",
        "if module is None:",
        (FOOTPRINT,),
    ),
    Fault(
        "decode-speed-includes-the-prefill",
        "evaluate/generation.py",
        "(new_tokens - 1) / (total - prefill)",
        "(new_tokens - 1) / total",
        (GENERATION,),
    ),
    Fault(
        "decode-counts-the-prefill-s-token",
        "evaluate/generation.py",
        "decode = (new_tokens - 1) /",
        "decode = new_tokens /",
        (GENERATION,),
    ),
    Fault(
        "first-call-is-timed",
        "evaluate/generation.py",
        "        _generate(model, inputs, min(2, new_tokens))\n",
        "",
        (GENERATION,),
    ),
    Fault(
        "mean-instead-of-median",
        "evaluate/generation.py",
        "statistics.median(whole)",
        "statistics.mean(whole)",
        (GENERATION,),
    ),
    Fault("generation-may-stop-early", "evaluate/generation.py", "min_new_tokens=new_tokens, ", "", (GENERATION,)),
    Fault("sampling-instead-of-greedy", "evaluate/generation.py", "do_sample=False", "do_sample=True", (GENERATION,)),
    Fault(
        "peak-from-zero",
        "evaluate/generation.py",
        "process.memory_info().rss) - above)",
        "process.memory_info().rss))",
        (GENERATION,),
    ),
    Fault(
        "threads-are-not-compared",
        "evaluate/fingerprint.py",
        "for name in left if left[name]",
        'for name in left if name != "threads" and left[name]',
        (FINGERPRINT,),
    ),
    Fault(
        "ratio-upside-down",
        "evaluate/paired.py",
        "perplexity_ratio(baseline.losses, measured.losses,",
        "perplexity_ratio(measured.losses, baseline.losses,",
        (PAIRED,),
    ),
    Fault(
        "relative-change-in-percent",
        "evaluate/paired.py",
        "relative_change=after / before - 1",
        "relative_change=100 * (after / before - 1)",
        (PAIRED,),
    ),
    Fault(
        "fingerprints-are-not-compared",
        "evaluate/paired.py",
        "    require_comparable(baseline.fingerprint, measured.fingerprint)\n",
        "",
        (PAIRED,),
    ),
    Fault(
        "rows-in-pieces-lose-the-rest",
        "evaluate/rows.py",
        "torch.tensor_split(tensor, pieces)",
        "tensor[: len(tensor) // pieces * pieces].split(len(tensor) // pieces or 1)",
        (f"{EVALUATE}/test_rows.py",),
    ),
)
