"""What a planted fault is, and how it is put into a copy of the package."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Fault:
    """One realistic mistake.

    Attributes:
        name: what goes wrong, in words joined by hyphens; no two faults share it.
        file: of the package, relative to `quant/`.
        old, new: text that occurs exactly once in the file, and what stands there instead.
        test: the one that goes red, as "tests/.../test_x.py::test_name" without parameters.
    """

    name: str
    file: str
    old: str
    new: str
    test: str

    def applied(self, source: str) -> str:
        """`source`, the content of the file, with the fault in it.

        Raises:
            ValueError: the old text does not occur exactly once, or the new text is the same.
        """
        if source.count(self.old) != 1 or self.old == self.new:
            raise ValueError(f"{self.name}: {self.old!r} occurs {source.count(self.old)} times in quant/{self.file}")
        return source.replace(self.old, self.new)

    def plant(self, tree: Path) -> str:
        """Put the fault into the package in `tree`; returns what the file held before."""
        path = tree / "quant" / self.file
        before = path.read_text(encoding="utf-8")
        path.write_text(self.applied(before), encoding="utf-8")
        return before
