"""The small files of a checkpoint: what lies beside the weights and goes where they go.

Copied are the tokenizer, templates and other settings. Never: pickles, which are weights and can run code, what a
conversion makes anew (the configuration, indexes, the manifest), and Python code that nobody said to trust.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quant.checkpoint.folder import CONFIG
from quant.checkpoint.manifest import MANIFEST

SMALL_FILES = ("*.json", "*.model", "*.txt", "*.jinja")
CODE_FILES = ("*.py",)


def files_to_copy(folder: Path, trust_remote_code: bool) -> dict[str, Path]:
    """Name -> file, of the small files that are the same after a conversion."""
    patterns = SMALL_FILES + (CODE_FILES if trust_remote_code else ())
    paths = sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
    made = (CONFIG, MANIFEST)
    return {path.name: path for path in paths if path.name not in made and not path.name.endswith(".index.json")}


def config_text(config: Mapping[str, Any]) -> str:
    """The content of config.json as text, as transformers writes it."""
    return json.dumps(config, indent=2, ensure_ascii=False) + "\n"
