"""Dtypes by name, as configurations and options spell them: "bfloat16" and not "torch.bfloat16"."""

import torch

MODEL_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""What the weights of a model may have."""


def dtype_name(dtype: torch.dtype) -> str:
    """As config.json has it: "bfloat16"."""
    return str(dtype).removeprefix("torch.")
