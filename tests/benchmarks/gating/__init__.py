"""What makes pytest-benchmark's timings hold something, where it alone lets a run pass that has shown nothing.

pytest-benchmark compares by test id and drops what only one side has, compares with the latest file of whatever
machine, cannot hold `extra_info`, and reports a regression as a traceback. Here a comparison that was asked for either
takes place, between runs of one machine key and over all benchmarks of both, or fails and says why.

`machine` is the key under which timings compare, `stored` compares a run with an earlier one, `ratios` holds times of
one run to each other, `file` keeps the measured limits, `measure` measures them (`python -m
tests.benchmarks.gating.measure`). Those are plain functions over the JSON that pytest-benchmark writes; `gate` calls
them on what one session has timed, and `plugin` asks it where pytest asks.
"""
