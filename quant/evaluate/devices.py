"""Where a model is: one device, or several that accelerate spread it over. Never torch's current device, which may be
another one.
"""

from typing import Any

import torch


def accelerators(model: Any) -> tuple[torch.device, ...]:
    """The CUDA devices that hold parameters of `model`, each once."""
    devices = dict.fromkeys(parameter.device for parameter in model.parameters())
    return tuple(device for device in devices if device.type == "cuda")


def device_names(model: Any) -> str:
    """Names of the accelerators that `model` is on, as in "NVIDIA H200"; where it is on none, its device: "cpu"."""
    names = [torch.cuda.get_device_name(device) for device in accelerators(model)]
    return ", ".join(dict.fromkeys(names)) or str(next(model.parameters()).device)
