"""The rooms that touch transformers and PEFT, with real saved models: loading, saving, refusing, training."""
