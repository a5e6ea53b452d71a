"""Pure functions from tensors to tensors: the arithmetic of the formats. They know no module, no model and no file."""
