"""What every registered scheme must do, with nothing said here of which schemes there are: a test that takes `scheme`
runs once for each.

State, copies and moves; the forward that changes nothing; torch.compile and torch.export; saving, loading and saving
again; LoRA adapters on top; accelerate's offloading. `tests.contract.registered` refuses schemes without figures.
"""
