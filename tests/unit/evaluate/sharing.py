"""A program that a launcher starts several times: each process prints a line of what it has measured together with the
others, bit by bit.

Arguments: the number of tokens, the batch size, and "nan" where a token of the last share is to break the model.
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
    tokens, batch_size, *rest = sys.argv[1:]
    torch.set_num_threads(1)
    with joined() as processes:
        try:
            outcome = measured(int(tokens), int(batch_size), "nan" in rest, processes)
        except QuantError as error:
            outcome = str(error)
        sys.stdout.write(f"{processes.rank} of {processes.size}: {outcome}\n")


if __name__ == "__main__":
    main()
