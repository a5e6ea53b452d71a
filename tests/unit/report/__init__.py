"""Reports from records made by hand: nothing is measured here."""
