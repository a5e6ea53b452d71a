"""Properties that hold for every weight, searched by hypothesis; the bounds are derived where they stand."""
