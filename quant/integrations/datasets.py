"""Evaluation texts from the hub, through the `datasets` package (an optional extra)."""

from pathlib import Path

from quant.errors import QuantError
from quant.integrations.hub import hub_reachable


def load_dataset_text(dataset: str) -> str:
    """The text column of a hub dataset, joined with blank lines.

    Args:
        dataset: "ID", "ID:CONFIG" or "ID:CONFIG:SPLIT", as in "Salesforce/wikitext:wikitext-2-raw-v1:test"; split
            defaults to "test".

    Raises:
        QuantError: the `datasets` package is missing, or the dataset cannot be loaded or has no text.
    """
    try:
        from datasets import load_dataset  # noqa: PLC0415
    except ImportError as error:
        raise QuantError("--dataset needs the datasets package: pip install 'quant[datasets]'") from error
    from huggingface_hub import constants  # noqa: PLC0415

    name, _, rest = dataset.partition(":")
    config, _, split = rest.partition(":")
    if not Path(name).exists() and not constants.HF_HUB_OFFLINE and not hub_reachable():
        raise QuantError(
            f"dataset {dataset!r}: the hub cannot be reached: pass --text, or set HF_HUB_OFFLINE=1 to use the cache"
        )
    try:
        rows = load_dataset(name, config or None, split=split or "test")
    except Exception as error:  # datasets raises a dozen types of its own and of its backends
        raise QuantError(f"dataset {dataset!r} cannot be loaded: {error}") from error
    if "text" not in rows.column_names:
        raise QuantError(f"dataset {dataset!r} has no column 'text', only {', '.join(rows.column_names)}")
    return "\n\n".join(rows["text"])
