"""The peak of memory, with a planted allocation."""

import subprocess
import sys
import threading

import psutil
import pytest
import torch

from quant.evaluate.generation import peak_memory, resident_bytes

PLANTED = 200 * 10**6


def test_the_peak_sees_a_tensor_that_is_gone_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays for two samples, the first of which may have begun before it was made. The slack is for what else the
    process does meanwhile, which is next to nothing.
    """
    before = resident_bytes()
    sampled = threading.Semaphore(0)
    memory_info = psutil.Process.memory_info

    def counted(process: psutil.Process) -> object:
        info = memory_info(process)
        sampled.release()
        return info

    monkeypatch.setattr(psutil.Process, "memory_info", counted)
    with peak_memory(above=before) as peak:
        planted = torch.ones(PLANTED // 4)
        while sampled.acquire(blocking=False):
            pass
        assert all(sampled.acquire(timeout=60) for _ in range(2))
        del planted
    assert 0.95 * PLANTED < peak.cpu_bytes < PLANTED + 50 * 10**6
    assert peak.gpu_bytes == 0


def test_gpu_memory_is_that_of_the_given_devices_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of torch's current device, which is another one if the model was put on cuda:1."""
    devices = (torch.device("cuda", 1), torch.device("cuda", 3))
    reset: list[object] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 10**device.index)
    with peak_memory(above=0, devices=devices) as peak:
        assert reset == list(devices)
    assert peak.gpu_bytes == 10 + 1000
    with peak_memory(above=0) as peak:
        pass
    assert peak.gpu_bytes == 0


def test_the_peak_sees_a_tensor_that_stays() -> None:
    before = resident_bytes()
    with peak_memory(above=before) as peak:
        planted = torch.ones(PLANTED // 4)
    assert peak.cpu_bytes > 0.95 * PLANTED
    del planted


def test_the_peak_counts_from_the_given_level() -> None:
    """Allocated between the level and the block, as a model is."""
    before = resident_bytes()
    planted = torch.ones(PLANTED // 4)
    with peak_memory(above=before) as with_model:
        pass
    with peak_memory(above=resident_bytes()) as without:
        pass
    assert with_model.cpu_bytes > 0.95 * PLANTED
    assert abs(without.cpu_bytes) < 50 * 10**6
    del planted


FREED = f"""
import torch
from quant.evaluate.generation import resident_bytes

before = resident_bytes()
blocks = [torch.ones(10_000) for _ in range({PLANTED} // 40_000)]
held = resident_bytes() - before
del blocks
print(held, resident_bytes() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told to give memory back")
def test_freed_memory_is_given_back_before_it_is_counted() -> None:
    """Many small blocks: the allocator keeps them unless it is told to trim. In a process of its own: in this one the
    blocks may fit where earlier tests' were, and other threads may give memory back meanwhile.
    """
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    held, left = map(int, done.stdout.split())
    assert held > 0.95 * PLANTED
    assert left < 50 * 10**6


def test_the_sampler_stops_and_the_peak_is_filled_when_the_block_fails() -> None:
    threads = threading.active_count()
    block = peak_memory(above=0)
    peak = block.__enter__()
    assert threading.active_count() == threads + 1
    swallowed = block.__exit__(RuntimeError, RuntimeError("planted"), None)
    assert not swallowed
    assert threading.active_count() == threads
    assert peak.cpu_bytes > 0
