"""The suite is tested too: faults planted by hand, and mutants made by mutmut (docs/testing-the-suite.md)."""
