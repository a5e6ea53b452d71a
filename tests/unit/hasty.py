"""`python -m tests.unit.hasty` is `python -m quant` with a clock for generation that gains more at each look than
before: generation is timed three times a scheme, not for three seconds, and more tokens take longer.
"""

import itertools
from types import SimpleNamespace

from quant.cli import main
from quant.evaluate import generation

CLOCK = SimpleNamespace(perf_counter=(float(look**2) for look in itertools.count()).__next__)

if __name__ == "__main__":
    vars(generation)["time"] = CLOCK
    main()
