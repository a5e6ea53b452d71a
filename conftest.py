"""Settings that every test runs under: no network, one hypothesis profile per purpose, and no state that leaks between tests."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
