"""`python -m tests.gpu.fetch MODEL [--dataset ID --into FILE]`: from the hub into its cache, and the text into a file.

A process of its own, because tests run with the hub switched off (conftest.py) and stay so: what this one has fetched
they find in the cache. It sees HF_HUB_OFFLINE as conftest.py found it.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from quant.errors import QuantError
from quant.sources import open_source, read_text


def fetch(model: str, dataset: str | None, into: Path) -> None:
    """Bring `model` into the hub's cache, and where there is a `dataset`, its text into the file `into`.

    Raises:
        QuantError: one of them is not there, or the hub cannot be reached and the cache has it not.
    """
    open_source(model)
    if dataset is not None:
        into.write_text(read_text(None, dataset), encoding="utf-8")


def fetch_outside(model: str, dataset: str | None, into: Path) -> None:
    """`fetch` in a process of its own, with HF_HUB_OFFLINE as it was found.

    Raises:
        QuantError: as `fetch`, with its sentence.
    """
    command = [sys.executable, "-m", "tests.gpu.fetch", model, "--into", str(into)]
    command += ["--dataset", dataset] if dataset else []
    environment = os.environ | {"HF_HUB_OFFLINE": os.environ["HF_HUB_OFFLINE_AS_FOUND"]}
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], env=environment, stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise QuantError(done.stderr.strip().rpartition("\n")[2] or f"{' '.join(command)} ended with {done.returncode}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.fetch", description=str(__doc__).split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--dataset")
    parser.add_argument("--into", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        fetch(options.model, options.dataset, options.into)
    except QuantError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
