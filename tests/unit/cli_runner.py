"""Calling the command line from tests: through its entry point in this process, or as `python -m quant`."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

QUICK = ("--schemes", "w8a16", "--window", 24, "--max-tokens", 100, "--new-tokens", 2)
"""Options of a comparison that takes the tiny model less than a second."""


@dataclass(frozen=True)
class Outcome:
    """Of one call: exit code, stdout and stderr."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


def subprocess_run(*arguments: object) -> Outcome:
    """`python -m quant` with these arguments, its output going to pipes."""
    environment = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "COLUMNS")}
    environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, "-m", "quant", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr)


def check_refused(outcome: Outcome, message: str) -> None:
    """Exit code 2, one line on stderr that matches `message`, nothing on stdout."""
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("quant: ")
    assert re.search(message, outcome.err)
    assert outcome.err.count("\n") == 1
    assert outcome.err.endswith("\n")
    assert "Traceback" not in outcome.err
