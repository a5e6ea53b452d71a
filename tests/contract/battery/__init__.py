"""What every registered scheme must do: a test that takes `scheme` runs once for each, whichever there are. The few
tests that need block sizes, or pairs of schemes, choose them by themselves.

State, copies and moves; the forward that changes nothing; torch.compile and torch.export; saving, loading and saving
again; LoRA adapters on top; accelerate's offloading. `tests.contract.registered` refuses schemes without figures.
"""
