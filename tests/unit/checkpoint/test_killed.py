"""A run that is killed at any moment leaves no OUT or the right one, and what it leaves can be finished to the bit."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from quant.checkpoint.folder import open_checkpoint
from quant.checkpoint.run import run
from quant.schemes import NF4
from tests.unit.checkpoint.files import digests, layer_tensors, plan_of, write_sharded
from tests.unit.checkpoint.killed import RANDOM_KILLS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sharded(tmp_path_factory.mktemp("killed") / "model", layer_tensors())


@pytest.fixture(scope="module")
def uninterrupted(model: Path) -> dict[str, str]:
    """The files of a run that nothing interrupts, and their digests."""
    checkpoint = open_checkpoint(model)
    run(plan_of(checkpoint, NF4(double_quant=True)), checkpoint, model.parent / "uninterrupted")
    return digests(model.parent / "uninterrupted")


@pytest.fixture(scope="module")
def kills(model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """One record per kill, those at random times last."""
    out = tmp_path_factory.mktemp("out") / "out"
    command = [sys.executable, "-m", "tests.unit.checkpoint.killed", str(model), str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_it_was_killed_at_every_step_and_at_random_times(kills: list[dict[str, Any]]) -> None:
    at_steps, at_random = kills[:-RANDOM_KILLS], kills[-RANDOM_KILLS:]
    assert [kill["step"] for kill in at_random] == [None] * RANDOM_KILLS
    assert [kill["step"] for kill in at_steps] == list(range(1, len(at_steps) + 1))
    assert all(kill["killed"] for kill in kills)
    # 4 jobs of at least one write, one sync and one line each; 2 files of four steps; a copy and 3 texts; 6 files to
    # bring to the disk
    assert len(at_steps) >= 4 * 3 + 2 * 4 + 1 + 3 + 6


def test_every_killed_run_is_finished_to_the_bit(kills: list[dict[str, Any]], uninterrupted: dict[str, str]) -> None:
    for kill in kills:
        assert "error" not in kill.get("second", {}), kill
        assert kill["digests"] == uninterrupted, kill["step"]


def test_a_folder_in_place_is_only_left_by_a_run_that_had_renamed_it(kills: list[dict[str, Any]]) -> None:
    finished = [kill["finished"] for kill in kills[:-RANDOM_KILLS]]
    assert finished == sorted(finished)
    assert finished.count(True) == 4  # after the rename: open and sync its folder, remove the journal, and its folder


def test_the_later_the_kill_the_more_is_kept(kills: list[dict[str, Any]]) -> None:
    kept = [kill["second"]["kept"] for kill in kills[:-RANDOM_KILLS] if not kill["finished"]]
    assert kept[0] == 0
    assert max(kept) == kept[-1] == 12  # all that there are: two cast and, with double quantization, two times five
    assert any(0 < count < 12 for count in kept)
