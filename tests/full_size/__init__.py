"""A checkpoint of Phi-3-mini's size, and what quantizing it and running it costs: seconds, tokens per second, memory.

    python -m tests.full_size.make FOLDER                 writes the checkpoint: 3.82 billion random weights, 7.6 GB
    python -m tests.full_size.measure FOLDER OUT.json     measures for about 25 minutes on two cores
    python -m tests.full_size.tables OUT.json             prints the tables of docs/full-size.md

What small models cannot show is only seen at this size: weights that no cache holds, a step of which little is Python,
memory that decides whether a model can be loaded at all. Times and memory do not depend on what the weights are, so
random ones do; accuracy does, and nothing here measures it. Linux only: peaks of memory are read from /proc.

Nothing here passes or fails by the clock. The tests run the same code on a model a thousand times smaller.
"""
