"""Where a model is: one device, or several that accelerate spread it over. Never torch's current device, which may be
another one.

What does not fit on the devices, accelerate leaves in the memory of the CPU or on disk and fetches for every call. It
computes on a device all the same, so figures of accuracy are the same; times are not, and reports say so.
"""

from itertools import chain
from typing import Any

import torch

AUTO = "auto"
"""In place of a device: spread over all that there are, and what is left over on the CPU and the disk."""


def accelerators(model: Any) -> tuple[torch.device, ...]:
    """The CUDA devices that hold parameters of `model`, each once."""
    devices = dict.fromkeys(parameter.device for parameter in model.parameters())
    return tuple(device for device in devices if device.type == "cuda")


def input_device(model: Any) -> torch.device:
    """Where `model` takes token ids: the device of its first parameter, the embedding. The CPU where that is fetched
    for every call; accelerate's hooks send the ids on from there, and the logits back.
    """
    device: torch.device = next(model.parameters()).device
    return torch.device("cpu") if device.type == "meta" and hasattr(model, "_hf_hook") else device


def device_names(model: Any) -> str:
    """Names of the accelerators that `model` is on, as in "NVIDIA H200"; where it is on none, its device: "cpu"."""
    names = [torch.cuda.get_device_name(device) for device in accelerators(model)]
    return ", ".join(dict.fromkeys(names)) or str(input_device(model))


def device_name(device: str) -> str:
    """What `device_names` will say of a model on `device`, as in "cuda:1" or "cpu"."""
    return torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else device


def offloaded_bytes(model: Any) -> int:
    """Bytes of parameters and buffers that are on no device between calls, in a model that was loaded."""
    return sum(tensor.nbytes for tensor in chain(model.parameters(), model.buffers()) if tensor.is_meta)


def runs_on_cpu(device: str) -> bool:
    """Whether a model that is loaded on `device` computes on the CPU; `AUTO` takes GPUs where there are any."""
    return not torch.cuda.is_available() if device == AUTO else torch.device(device).type == "cpu"
