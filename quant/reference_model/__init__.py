"""The embedded default: a small trained model of Phi-3's architecture, its tokenizer and a held-out text, as package
data.

It makes `quant compare` mean something on a machine without network: random weights have no accuracy to lose. What it
is, how it was trained and what it must not be used for is in `README.md` beside this file (its model card);
`train.py` makes it again.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
"""A model folder as transformers reads it."""

WINDOW = 256
"""Tokens per window that it was trained with, and the default for measuring it."""


def held_out_text() -> str:
    """The speeches that were kept from training (every 20th), joined with blank lines."""
    return (FOLDER / "held_out.txt").read_text(encoding="utf-8")
