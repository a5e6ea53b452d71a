"""The planted faults, one file per part of the package."""

from tests.mutation.faults import (
    figures,
    files,
    formats,
    gates,
    gpu,
    integrations,
    kernels,
    layers,
    losses,
    mixed_precision,
    models,
    numerics,
    plugin,
    processes,
    reports,
    runs,
)

FAULTS = (
    *formats.FAULTS,
    *numerics.FAULTS,
    *kernels.FAULTS,
    *gpu.FAULTS,
    *layers.FAULTS,
    *models.FAULTS,
    *losses.FAULTS,
    *figures.FAULTS,
    *processes.FAULTS,
    *gates.FAULTS,
    *plugin.FAULTS,
    *files.FAULTS,
    *runs.FAULTS,
    *integrations.FAULTS,
    *reports.FAULTS,
    *mixed_precision.FAULTS,
)
