"""Timings by pytest-benchmark, every one beside what it replaces: layers, quantizing, generation.

`pytest tests/benchmarks --benchmark-only --benchmark-json FILE` measures, `python -m tests.benchmarks.tables FILE`
prints the tables. Without one of pytest-benchmark's own options each benchmark runs once, small, so that it keeps
working. What is compared are ratios within one run; nothing here passes or fails by the clock.
"""
