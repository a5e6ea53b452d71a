"""The study of NF4 against linear quantization."""
