"""Looking for tests that do not always say the same."""
