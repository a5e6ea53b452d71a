"""The suite: unit, property, parity and contract tests of `quant`, and what they share."""
