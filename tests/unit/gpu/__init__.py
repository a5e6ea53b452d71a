"""What the suite in `tests/gpu` is made of, on the CPU and without the hub."""
