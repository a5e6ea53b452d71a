"""The only room that imports transformers, PEFT, bitsandbytes and datasets.

They are imported when a function needs them, but for the modules whose classes derive from theirs
(`quantization_config`, `quantizer`, `marking`, `peft`), which nothing imports before they are needed.
"""
