"""Checkpoints as each version of the format wrote them, which must load for ever, and what they must give."""
