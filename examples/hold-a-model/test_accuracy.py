"""Fails when quantizing this project's model costs more accuracy than it was recorded to."""


def test_accuracy(quant_scheme, accuracy_gate):
    accuracy_gate(quant_scheme)
