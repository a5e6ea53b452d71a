"""The SHA-256 of every golden file, in the format of `sha256sum` (which checks it too: `sha256sum -c SHA256SUMS`).

What is compared with a golden file sees a fault in the package. This sees the file itself go, change or be joined by
another one: a setting in a config.json that no test reads, or a scheme's whole folder.
"""

import hashlib
from pathlib import Path

SUMS = "SHA256SUMS"


def sums(folder: Path) -> dict[str, str]:
    """Path below `folder` -> SHA-256 of each file that is there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def recorded(folder: Path) -> dict[str, str]:
    """Path below `folder` -> SHA-256 as written down; nothing where there is no list."""
    if not (folder / SUMS).exists():
        return {}
    lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split("  ") for line in lines)}


def record(folder: Path) -> None:
    """Write down the files that are not on the list; what is on it stays as it is."""
    lines = [f"{digest}  {name}" for name, digest in sorted({**sums(folder), **recorded(folder)}.items())]
    (folder / SUMS).write_text("\n".join(lines) + "\n", encoding="utf-8")


def differences(folder: Path) -> list[str]:
    """What is not as it was written down, each with its path."""
    before, now = recorded(folder), sums(folder)
    return [
        *(f"missing: {name}" for name in before if name not in now),
        *(f"altered: {name}" for name in before if name in now and before[name] != now[name]),
        *(f"not on the list: {name}" for name in now if name not in before),
    ]
