"""Measuring models: token windows, perplexity, divergence from a baseline, statistics, footprint, generation.

Nothing here knows a scheme or a file: functions take a model that maps `input_ids` [batch, length] to an output with
`logits` [batch, length, vocabulary], and token ids.
"""
