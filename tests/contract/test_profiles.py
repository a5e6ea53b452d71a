"""What the hypothesis profiles of the root conftest promise, as a CI machine sees them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, conftest
from hypothesis import given, settings, strategies as st
drawn = []
@given(st.integers(0, 2**63))
def draw(number):
    drawn.append(number)
draw()
first = drawn.copy()
drawn.clear()
draw()
chosen = settings.default
print(json.dumps([first, drawn, chosen.derandomize, chosen.database is None, chosen.print_blob]))
"""


def drawn_by(profile: str) -> tuple[list[int], list[int], list[object]]:
    """The integers that a test draws when it is first run in a process on CI, those of its second run, and the settings
    it ran under.
    """
    environment = {**os.environ, "HYPOTHESIS_PROFILE": profile, "CI": "true"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    first, second, *chosen = json.loads(done.stdout)
    return first, second, chosen


@pytest.mark.parametrize(("profile", "derandomize"), [("random", False), ("ci", True)])
def test_random_draws_new_examples_and_ci_the_same(profile: str, derandomize: bool) -> None:
    first, second, chosen = drawn_by(profile)
    assert chosen == [derandomize, True, True]
    assert len(first) >= 100
    assert (first == second) is derandomize
