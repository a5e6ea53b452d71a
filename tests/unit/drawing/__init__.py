"""`quant.drawing`: what all figures share."""
