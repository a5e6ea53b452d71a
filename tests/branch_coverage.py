"""`python -m tests.branch_coverage`, after `pytest -m "not gpu" --cov`: whether enough branches of `quant` were taken.

coverage's own `fail_under` counts lines and branches together, and there are several lines to a branch, so that a suite
which leaves out many branches stays above it. Here the same limit holds for branches alone. A branch is, as coverage
counts them, one of the ways on from a line that has several.
"""

import json
import sys
import tempfile
from pathlib import Path

from coverage import Coverage
from coverage.exceptions import NoDataError


def branches(measured: Coverage) -> tuple[int, int]:
    """(how many were taken, how many there are).

    Raises:
        NoDataError: nothing was measured.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        measured.json_report(outfile=str(report))
        totals = json.loads(report.read_text(encoding="utf-8"))["totals"]
    return totals.get("covered_branches", 0), totals.get("num_branches", 0)


def verdict(measured: Coverage) -> str | None:
    """Print how many branches were taken; why that is not enough, or None."""
    measured.load()
    limit = measured.get_option("report:fail_under")
    if not isinstance(limit, int | float) or limit <= 0:
        return f"fail_under is {limit!r}, so there is no limit to hold branches to"
    try:
        taken, count = branches(measured)
    except NoDataError:
        return "nothing was measured: run pytest with --cov first"
    if not count:
        return "no branches were measured: the run needs branch = true and code that branches"
    share = 100 * taken / count
    print(f"{taken:,} of {count:,} branches taken, {share:.2f} %; the limit is {limit:g} %")
    return None if share >= limit else f"fewer than {limit:g} % of the branches were taken"


if __name__ == "__main__":
    sys.exit(verdict(Coverage()))
