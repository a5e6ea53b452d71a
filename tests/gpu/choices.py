"""What the suite runs on: the device, the model and the text, from options that mean the CPU and the embedded model
elsewhere.

Without options it is the first GPU, the full Phi-3-mini and wikitext-2. `--device cpu --model reference` rehearses: the
same tests, the embedded model on its own text. What cannot be stops the run in one sentence before a test starts, so
that a machine that has lost its GPU is not green, nor red in a hundred places.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from quant.errors import QuantError
from quant.integrations.transformers import check_device
from quant.kernels import cuda
from quant.sources import PHI_3_MINI, PHI_3_MINI_ID, REFERENCE
from tests.gpu.references import REFERENCES

DATASET = "Salesforce/wikitext:wikitext-2-raw-v1:test"
REHEARSE = "--device cpu --model reference"


def require_device(option: str | None) -> None:
    """Raises:
    pytest.UsageError: no GPU where none is named (`option` None), a device that is not there, or several, or one
        that the kernels do not run on.
    """
    if option is None and not torch.cuda.is_available():
        raise pytest.UsageError(
            f"tests marked gpu need a CUDA GPU and torch sees none: run pytest -m 'not gpu', or rehearse: {REHEARSE}"
        )
    if option == "auto":
        raise pytest.UsageError("--device auto is no device: tests marked gpu run on one, name it, as in cuda:1")
    try:
        check_device(option or "cuda")
    except QuantError as error:
        raise pytest.UsageError(f"--device: {error}, or run pytest -m 'not gpu'") from error
    if option != "cpu" and not cuda.is_usable(torch.device(option or "cuda")):
        raise pytest.UsageError(
            f"--device {option or 'cuda'}: tests marked gpu hold kernels that this GPU or this install cannot run; "
            f"quant.kernels.cuda says what they need: run pytest -m 'not gpu', or rehearse: {REHEARSE}"
        )


def require_model(option: str | None) -> None:
    """Raises:
    pytest.UsageError: a model that there are no figures for.
    """
    if family(option) not in REFERENCES:
        raise pytest.UsageError(
            f"--model {option}: tests marked gpu have figures for {', '.join(REFERENCES)} only; hold another "
            f"model with the fixture accuracy_gate (README, Hold your own model)"
        )


def model_of(option: str | None) -> str:
    """MODEL as `quant.sources` takes it."""
    return option or PHI_3_MINI


def family(option: str | None) -> str:
    """What the figures are filed under: the last part of a hub id or of a folder, so that a copy on disk has them."""
    model = model_of(option)
    return Path(PHI_3_MINI_ID if model == PHI_3_MINI else model).name


def dataset_of(option: str | None, text: str | None) -> str | None:
    """The dataset to measure on; None where a text is named, and for the embedded model, which has its own."""
    return None if text or model_of(option) == REFERENCE else DATASET


@contextmanager
def in_one_sentence() -> Iterator[None]:
    """What the package refuses within fails the test with its sentence, and no traceback."""
    message = None
    try:
        yield
    except QuantError as error:
        message = str(error)
    if message is not None:
        pytest.fail(message, pytrace=False)
