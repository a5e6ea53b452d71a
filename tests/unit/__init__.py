"""One file per module of the package: what each function promises, on hand-made examples and against the oracle."""
