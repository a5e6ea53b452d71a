"""Faults that quantization libraries have shipped, compiled from their public issues, pull requests and histories."""

from tests.faults.catalogue import (
    dtypes,
    evaluation,
    integration,
    models,
    numerics,
    packing,
    resources,
    serialization,
)
from tests.faults.fault import Fault

GROUPS: dict[str, tuple[Fault, ...]] = {
    "Numerics": numerics.FAULTS,
    "Packing and layout": packing.FAULTS,
    "Dtypes and devices": dtypes.FAULTS,
    "Modules and models": models.FAULTS,
    "Saving and loading": serialization.FAULTS,
    "Together with torch and transformers": integration.FAULTS,
    "Evaluation": evaluation.FAULTS,
    "Memory and speed": resources.FAULTS,
}
"""Heading -> entries, in the order of their ids."""
FAULTS: tuple[Fault, ...] = tuple(fault for group in GROUPS.values() for fault in group)
