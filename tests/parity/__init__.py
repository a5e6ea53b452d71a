"""Bit for bit against other implementations of the same formats."""
