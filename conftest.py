"""What every test runs under: no hub, one hypothesis profile per purpose, a fixed seed, and no global state that
leaks to the next test.
"""

import os
from collections.abc import Iterator

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import pytest
import torch
from hypothesis import HealthCheck, settings

# "ci" replays the same examples every time; "random" draws new ones, for nightly runs: HYPOTHESIS_PROFILE=random.
slow_machines = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "ci", deadline=None, derandomize=True, database=None, print_blob=True, suppress_health_check=slow_machines
)
settings.register_profile(
    "random", deadline=None, max_examples=500, print_blob=True, suppress_health_check=slow_machines
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def global_state() -> dict[str, object]:
    """Process-wide settings of torch that library code must not change."""
    return {
        "default dtype": torch.get_default_dtype(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
    }


@pytest.fixture(autouse=True)
def isolated() -> Iterator[None]:
    """Seed torch, and fail a test that leaves process-wide settings changed."""
    torch.manual_seed(0)
    before = global_state()
    yield
    assert global_state() == before
