"""`python -m tests.full_size.measure FOLDER OUT.json`: measure quantizing, loading and generating with a checkpoint.

Every measurement runs in a process of its own, one at a time. Where ratios matter (`generate`) the variants are visited
in rounds, so that a machine that slows down for a while slows all of them down. Each result is written to OUT.json at
once and replaces the one of an earlier run: a part that failed is repeated with `--only PART` or `--only PART:VARIANT`.
The quantized checkpoints go to FOLDER-quantized (or `--work`), where what an earlier run left is overwritten.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.full_size.quantizing import measure_quantizing
from tests.full_size.system import ROOT, weight_files
from tests.full_size.variants import PARTS, VARIANTS, Sizes, Task


class Record:
    """The JSON file of a run: part -> variant -> results, beside the model and the environment they belong to."""

    def __init__(self, path: Path, taken: dict[str, Any]) -> None:
        """Open `path` or begin it; taken: what the results of a file must have in common, but for the date.

        Raises:
            SystemExit: its results are of something else.
        """
        self._path = path
        self.content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else dict(taken)
        for key, value in taken.items():
            before = self.content.get(key)
            if {**(before or {}), "date": None} != {**value, "date": None}:
                raise SystemExit(f"{path} holds results of another {key} ({before}, now {value}): name another file")

    def add(self, part: str, variant: str, result: object) -> None:
        """Set a result and write the file."""
        self.content.setdefault(part, {})[variant] = result
        partial = self._path.with_name(f"{self._path.name}.partial")
        partial.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")
        partial.replace(self._path)


def chosen(only: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Part -> its variants, of PART and PART:VARIANT, or everything.

    Raises:
        SystemExit: a part or a variant that is not in `PARTS`.
    """
    found: dict[str, tuple[str, ...]] = {}
    for item in only or PARTS:
        part, _, variant = item.partition(":")
        if part not in PARTS or (variant and variant not in PARTS[part]):
            known = "; ".join(f"{name}: {', '.join(variants)}" for name, variants in PARTS.items())
            raise SystemExit(f"--only {item}: use PART or PART:VARIANT, of {known}")
        found[part] = found.get(part, ()) + ((variant,) if variant else PARTS[part])
    return {part: found[part] for part in PARTS if part in found}


def ask_child(argument: str) -> Any:
    """What `python -m tests.full_size.child` answers. It finds nothing that torch has compiled earlier.

    Raises:
        subprocess.CalledProcessError: it failed; why is on stderr.
    """
    command = [sys.executable, "-m", "tests.full_size.child", argument]
    with tempfile.TemporaryDirectory() as cache:
        environment = {"HF_HUB_OFFLINE": "1", "TORCHINDUCTOR_CACHE_DIR": cache}
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | environment, check=True, stdout=subprocess.PIPE, text=True
        )
    return json.loads(done.stdout.splitlines()[-1])


def tasks(part: str, variants: Sequence[str], folder: Path, work: Path | None, sizes: Sizes) -> Iterator[Task]:
    """The processes of a part in order. bitsandbytes quantizes in every process that loads it, which takes minutes: all
    rounds of it run in the first.
    """
    for index in range(sizes.rounds if part == "generate" else 1):
        for name in variants:
            ours = VARIANTS[name].is_ours
            once = part != "generate" or (VARIANTS[name].scheme is not None and not ours)
            if index == 0 or not once:
                source = str(work / str(VARIANTS[name].scheme)) if ours and work else None
                yield Task(part, name, str(folder), source, sizes.rounds if once else 1, sizes)


class Run:
    """Measures into a record. What fails is told and listed in `failed`; the rest is measured all the same."""

    def __init__(self, folder: Path, work: Path, record: Record, sizes: Sizes) -> None:
        self.folder, self.work, self.record, self.sizes = folder, work, record, sizes
        self.failed: list[str] = []

    def quantize(self, schemes: Sequence[str]) -> None:
        """Time the command for each scheme."""
        for scheme in schemes:
            with self._noting_failure(f"quantize:{scheme}"):
                self.record.add("quantize", scheme, measure_quantizing(self.folder, self.work / scheme, scheme))

    def models(self, part: str, variants: Sequence[str], in_memory: bool) -> None:
        """Measure a part on loaded models."""
        results: dict[str, list[Any]] = {}
        for task in tasks(part, variants, self.folder, None if in_memory else self.work, self.sizes):
            with self._noting_failure(f"{part}:{task.variant}"):
                results.setdefault(task.variant, []).append(ask_child(task.to_json()))
                self.record.add(part, task.variant, results[task.variant])

    @contextmanager
    def _noting_failure(self, what: str) -> Iterator[None]:
        sys.stderr.write(f"{what}\n")
        try:
            yield
        except subprocess.CalledProcessError as error:
            sys.stderr.write(f"{what} failed: {error}\n")
            self.failed.append(what)


def main() -> None:
    """The command line; exit code 1 where something failed."""
    parser = argparse.ArgumentParser("python -m tests.full_size.measure", description="Measure with a full-size model")
    parser.add_argument("folder", type=Path, help="a bfloat16 checkpoint, as tests.full_size.make writes it")
    parser.add_argument("out", type=Path, help="JSON file; results are added to those it has")
    parser.add_argument("--only", nargs="+", default=(), metavar="PART[:VARIANT]", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--work", type=Path, help="where the quantized checkpoints go; default: FOLDER-quantized")
    parser.add_argument("--in-memory", action="store_true", help="quantize after loading; no quantized checkpoints")
    for field in dataclasses.fields(Sizes):
        option = f"--{field.name.replace('_', '-')}"
        parser.add_argument(option, type=int, default=field.default, metavar="N", help=f"default: {field.default}")
    options = parser.parse_args()
    sizes = Sizes(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Sizes)})
    parts, folder = chosen(options.only), options.folder.resolve()
    if not weight_files(folder):
        raise SystemExit(f"{folder} has no safetensors: make it with python -m tests.full_size.make")
    work = (options.work or folder.with_name(f"{folder.name}-quantized")).resolve()
    model = {"name": folder.name, "bytes": sum(file.stat().st_size for file in weight_files(folder))}
    environment = ask_child(str(sizes.threads))
    record = Record(options.out, {"model": model, "environment": environment, "sizes": dataclasses.asdict(sizes)})
    run = Run(folder, work, record, sizes)
    for part, variants in parts.items():
        if part != "quantize":
            run.models(part, variants, options.in_memory)
        elif not options.in_memory:
            run.quantize(variants)
    if run.failed:
        raise SystemExit(f"failed: {', '.join(run.failed)}; repeat with --only")


if __name__ == "__main__":
    main()
