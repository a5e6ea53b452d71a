"""The planted faults, one file per part of the package."""

from tests.mutation.faults import checkpoints, evaluation, layers, models, numerics, surroundings

FAULTS = (
    *numerics.FAULTS,
    *layers.FAULTS,
    *models.FAULTS,
    *evaluation.FAULTS,
    *checkpoints.FAULTS,
    *surroundings.FAULTS,
)
