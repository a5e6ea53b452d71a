"""What a model can take: how many positions and which token ids. Checked by name before it runs, since models answer
with an index error or, worse, with numbers.
"""

from typing import Any

from torch import Tensor

from quant.errors import QuantError


def position_limit(config: Any) -> int | None:
    """Positions of a model with this configuration (of a multimodal one, of its text part); None: no limit is set."""
    limit: int | None = getattr(_text_config(config), "max_position_embeddings", None)
    return limit


def check_positions(config: Any, length: int, what: str) -> None:
    """Check that a model of `config` has positions for `length` tokens.

    Raises:
        QuantError: it has fewer; the message begins with `what`.
    """
    limit = position_limit(config)
    if limit is not None and length > limit:
        raise QuantError(f"{what} {length} exceeds the model's {limit} positions: use {limit} or less")


def check_vocabulary(config: Any, ids: Tensor, bos_id: int | None = None) -> None:
    """Check that a model of `config` has an embedding for every one of `ids` (int64 [n], n >= 1) and for `bos_id`.

    Raises:
        QuantError: it has too few.
    """
    rows = vocabulary_size(config)
    largest = max(int(ids.max()), bos_id or 0)
    if rows is not None and largest >= rows:
        raise QuantError(
            f"token id {largest} is outside the model's vocabulary of {rows}: use the tokenizer it was trained with"
        )


def vocabulary_size(config: Any) -> int | None:
    """Rows of the embedding of a model of `config`, None where it does not say."""
    rows: int | None = getattr(_text_config(config), "vocab_size", None)
    return rows


def _text_config(config: Any) -> Any:
    nested = getattr(config, "get_text_config", None)
    return nested() if callable(nested) else config
