"""A program that a launcher starts several times: of each of `CASES` each process prints a line of what it has measured
together with the others, bit by bit.
"""

import hashlib
import math
import sys

import torch

from quant.errors import QuantError
from quant.evaluate.divergence import Baseline
from quant.evaluate.processes import Processes, joined
from quant.evaluate.windows import TokenWindows
from tests.fakes import Bigram, table

WINDOW = 8
CASES = {"NaN": (33, 1, True), "two batches": (33, 2, False), "one window": (9, 1, False)}
"""Tokens, batch size, and whether a token of the last share breaks the model: that comes first, and the others after it
show that the processes are still in step.
"""


def measured(tokens: int, batch_size: int, broken: bool, processes: Processes) -> str:
    """A digest of all that is measured per token."""
    windows = TokenWindows(torch.arange(tokens), WINDOW)
    rows, others = table(tokens, tokens, 1), table(tokens, tokens, 2)
    if broken:
        others[tokens - 2] = math.nan
    baseline = Baseline(Bigram(rows), windows, batch_size, processes=processes)
    compared = baseline.compare(Bigram(others))
    results = (baseline.losses, compared.losses, compared.kl, compared.top1)
    joint = b"".join(tensor.numpy().tobytes() for tensor in results if tensor is not None)
    return f"{len(compared.losses)} tokens {hashlib.sha256(joint).hexdigest()}"


def main() -> None:
    torch.set_num_threads(1)
    with joined() as processes:
        for name, case in CASES.items():
            try:
                outcome = measured(*case, processes)
            except QuantError as error:
                outcome = str(error)
            sys.stdout.write(f"{name}, {processes.rank} of {processes.size}: {outcome}\n")
        processes.leave(processes.end(0))


if __name__ == "__main__":
    main()
