"""Tries faults one after the other on the package of the tree that it is started in: `python -m tests.mutation.worker`
with their names. `tests.mutation.planted` starts it in copies of the repository; it writes to the sources.

What takes the time of a small test is importing torch and transformers. They are imported here once, and every fault
runs in a fork of this process, which imports the package and its tests afresh, with the fault in them. The libraries
are only imported before the fork and never computed with, since threads do not survive it. Needs `os.fork`.
"""

import importlib
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from tests.mutation.fault import Fault
from tests.mutation.faults import FAULTS

LIBRARIES = tuple(
    line
    for line in Path(__file__).with_name("preloaded.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
)
"""What tests import at the least, but the package."""
OPTIONS = ("-q", "--tb=line", "-o", "addopts=", "-p", "no:cacheprovider", "-W", "ignore:Module already imported")
"""The warning is of plugins among `LIBRARIES` whose assertions pytest finds imported already."""
SECONDS = 300
"""After which a run counts as red: the fault made it hang."""
VERDICTS = {0: "survived", 1: "red", -signal.SIGALRM: "red"}
"""How a run of the tests ended -> what it says of the fault; any other end is `BROKEN` and proves nothing."""
BROKEN = "broken"
ERROR = re.compile(r"^\S+:\d+: .*", re.MULTILINE)
"""How `--tb=line` tells of a failure: file, line, error."""


def forked(run: Callable[[], int]) -> tuple[int, str]:
    """(exit code, minus the signal if one ended it; what was printed) of `run` in a fork that has `SECONDS`."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        signal.alarm(SECONDS)
        code = 70
        try:
            code = run()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(writing)
    with open(reading, encoding="utf-8", errors="replace") as pipe:
        printed = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), printed


def run_tests(tests: Iterable[str]) -> tuple[str, str]:
    """(verdict, why) of these tests, up to the first that fails: its error, if any, or the last lines printed."""
    code, printed = forked(lambda: int(pytest.main(["-x", *OPTIONS, *tests])))
    verdict, last = VERDICTS.get(code, BROKEN), "\n".join(printed.splitlines()[-8:])
    if verdict != "red":
        return verdict, last
    error = ERROR.search(printed)
    return verdict, error[0].removeprefix(f"{Path.cwd()}{os.sep}") if error else f"no end within {SECONDS} s"


def try_fault(tree: Path, fault: Fault) -> tuple[str, str]:
    """`run_tests` of the fault's own test with the fault in `tree`, which is then as it was before."""
    before = fault.plant(tree)
    try:
        return run_tests([fault.test])
    finally:
        (tree / "quant" / fault.file).write_text(before, encoding="utf-8")


def try_all(tree: Path, faults: Sequence[Fault]) -> bool:
    """Try every fault and print its verdict. Whether all were red."""
    verdicts = set()
    for fault in faults:
        verdict, why = try_fault(tree, fault)
        verdicts.add(verdict)
        change = "" if verdict == "red" else f"quant/{fault.file}: {fault.old!r} -> {fault.new!r}\n"
        print(f"{verdict:9}{fault.name}: {change}{why}", flush=True)
    return verdicts <= {"red"}


def main(names: Sequence[str], faults: Iterable[Fault] = FAULTS, libraries: Iterable[str] = LIBRARIES) -> int:
    """The command line: first the tests without a fault, then the faults. The exit code is 0 where all were red."""
    # Bytecode is told from its source by size and second only: a fault and its repair could pass for each other.
    sys.dont_write_bytecode = True
    for library in libraries:
        importlib.import_module(library)
    chosen = [fault for fault in faults if fault.name in names]
    verdict, printed = run_tests(sorted({fault.test for fault in chosen}))
    if verdict != "survived":
        print(f"The tests are not green without a fault:\n{printed}")
        return 1
    return 0 if try_all(Path.cwd(), chosen) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
