"""What makes pytest-benchmark's timings hold something, where it alone lets a run pass that has shown nothing.

pytest-benchmark compares by test id and drops what only one side has, compares with the latest file of whatever
machine, cannot hold `extra_info`, and reports a regression as a traceback. Here a comparison that was asked for either
takes place, between runs of one machine key and over all benchmarks of both, or fails and says why.

`machine` is the key under which timings compare, `stored` compares a run with an earlier one, `ratios` has the ratios
of one run's times and their limits, `holding` holds the ones to the others, `file` keeps the measured limits, `measure`
measures them (`python -m tests.benchmarks.gating.measure`), and `failures` counts what a run fails for. Those are plain
functions over the JSON that pytest-benchmark writes; `gate` calls them on what one session has timed, and `plugin` asks
it where pytest asks.
"""
