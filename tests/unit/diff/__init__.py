"""`quant.diff` on two records made by hand: nothing is measured here."""
