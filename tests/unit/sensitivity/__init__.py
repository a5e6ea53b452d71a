"""`quant.sensitivity`: layers measured one by one, and plans chosen from what they cost."""
