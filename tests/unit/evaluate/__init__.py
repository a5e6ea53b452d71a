"""Measuring, on fake models whose losses are known in advance."""
