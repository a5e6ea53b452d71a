"""The one exception family: what the caller asked for cannot be done, and the message says what to do instead.

Everything that a caller can get wrong (a scheme, a pattern, a file, a text) raises `QuantError` before anything has
been changed. It is a `ValueError`, so library users need not know the name; the command line turns exactly this type
into one line and exit code 2, so that a real bug keeps its traceback.
"""


class QuantError(ValueError):
    """Bad input. The message names the thing (layer, file, option), what is wrong with it and the remedy."""


class BrokenLogitsError(QuantError):
    """A model's logits hold NaN or infinite values: for who tries schemes out, one that breaks the model."""
