"""Mistakes in reading, converting and writing checkpoints: `quant/checkpoint`."""

from tests.mutation.fault import Fault

CHECKPOINT = "tests/unit/checkpoint"
FOLDER = f"{CHECKPOINT}/test_folder.py"
HEADERS = f"{CHECKPOINT}/test_headers.py"
LAYOUT = f"{CHECKPOINT}/test_layout.py"
RESUME = f"{CHECKPOINT}/test_resume.py"
JOURNAL = f"{CHECKPOINT}/test_journal.py"
READING = f"{CHECKPOINT}/test_reading.py"
MANIFEST = f"{CHECKPOINT}/test_manifest.py"
TENSOR_JOBS = f"{CHECKPOINT}/test_tensor_jobs.py"
EXCLUSION = f"{CHECKPOINT}/test_exclusion.py"
DURABILITY = f"{CHECKPOINT}/test_durability.py"
DISK_FULL = f"{CHECKPOINT}/test_disk_full.py"
BITSANDBYTES = f"{CHECKPOINT}/test_bitsandbytes_layout.py"
STATE = f"{CHECKPOINT}/test_bitsandbytes_state.py"

FAULTS = (
    Fault(
        "shard-is-skipped",
        "checkpoint/folder.py",
        "in sorted(set(weight_map.values()))}",
        "in sorted(set(weight_map.values()))[:1]}",
        (FOLDER,),
    ),
    Fault(
        "index-is-believed", "checkpoint/folder.py", "        _check_index(index, weight_map, files)\n", "", (FOLDER,)
    ),
    Fault(
        "index-leads-outside-the-folder", "checkpoint/folder.py", ' and not set(name) & set("/\\\\\\0")', "", (FOLDER,)
    ),
    Fault(
        "tensor-that-the-index-lacks-is-taken",
        "checkpoint/folder.py",
        "if listed is None:",
        "if listed is None and not header:",
        (FOLDER,),
    ),
    Fault(
        "half-precisions-exchanged",
        "checkpoint/headers.py",
        '"BF16": torch.bfloat16,\n    "F16": torch.float16,',
        '"BF16": torch.float16,\n    "F16": torch.bfloat16,',
        (HEADERS,),
    ),
    Fault(
        "gap-in-a-file-is-accepted",
        "checkpoint/headers.py",
        "if tensor.start != start:",
        "if tensor.start < start:",
        (HEADERS,),
    ),
    Fault(
        "appended-bytes-are-accepted",
        "checkpoint/headers.py",
        "    if start < size:\n",
        "    if start > size:\n",
        (HEADERS,),
    ),
    Fault(
        "name-that-occurs-twice-is-accepted",
        "checkpoint/headers.py",
        "if len(table) < len(pairs):",
        "if len(table) > len(pairs):",
        (HEADERS,),
    ),
    Fault(
        "size-of-a-tensor-is-believed",
        "checkpoint/headers.py",
        "if end - begin != prod(shape) * dtype.itemsize:",
        "if end - begin < prod(shape):",
        (HEADERS,),
    ),
    Fault("header-is-not-padded", "checkpoint/layout.py", "(-len(text) % ALIGNMENT)", "(-len(text) % 1)", (LAYOUT,)),
    Fault(
        "tensors-in-alphabetical-order",
        "checkpoint/layout.py",
        "return RANKS[tensor.dtype], tensor.name",
        "return 0, tensor.name",
        (LAYOUT,),
    ),
    Fault(
        "offsets-without-the-header",
        "checkpoint/layout.py",
        "len(header) + start for n, start",
        "start for n, start",
        (LAYOUT, TENSOR_JOBS),
    ),
    Fault(
        "header-of-another-dtype",
        "checkpoint/layout.py",
        '"dtype": NAMES[tensor.dtype],',
        '"dtype": NAMES[tensor.dtype].replace("BF16", "F16"),',
        (LAYOUT,),
    ),
    Fault(
        "total-size-counts-elements",
        "checkpoint/layout.py",
        "sum(tensor.nbytes for tensor in tensors)",
        "sum(tensor.nbytes // tensor.dtype.itemsize for tensor in tensors)",
        (LAYOUT,),
    ),
    Fault(
        "resumes-over-inputs-that-were-saved-anew",
        "checkpoint/run.py",
        "[header.size, header.digest, header.modified]",
        "[header.size, header.digest]",
        (RESUME,),
    ),
    Fault(
        "resume-reuses-a-damaged-tensor",
        "checkpoint/run.py",
        "if None in entered or entered != [self._partial.digest(tensor) for tensor in job.outputs]:",
        "if None in entered:",
        (RESUME,),
    ),
    Fault(
        "resume-does-everything-again",
        "checkpoint/run.py",
        "            if self._is_intact(job):\n",
        "            if False and self._is_intact(job):\n",
        (RESUME,),
    ),
    Fault(
        "resume-with-other-settings",
        "checkpoint/run.py",
        '"input files": inputs, **plan.settings,',
        '"input files": inputs,',
        (RESUME,),
    ),
    Fault(
        "entered-before-it-is-on-the-disk",
        "checkpoint/run.py",
        "                self._partial.sync(job)\n",
        "",
        (DURABILITY,),
    ),
    Fault(
        "existing-folder-is-overwritten",
        "checkpoint/run.py",
        "    if taken:\n",
        "    if taken and not resolved.is_dir():\n",
        (EXCLUSION,),
    ),
    Fault(
        "inputs-that-change-under-way", "checkpoint/run.py", "                inputs.check_unchanged()\n", "", (RESUME,)
    ),
    Fault(
        "first-chunk-is-written-over",
        "checkpoint/run.py",
        "written[name], data)",
        "0, data)",
        (TENSOR_JOBS, f"{CHECKPOINT}/test_jobs.py"),
    ),
    Fault(
        "incomplete-tensor-is-finished",
        "checkpoint/run.py",
        "if written[name] != tensor.nbytes:",
        "if written[name] > tensor.nbytes:",
        (f"{CHECKPOINT}/test_jobs.py",),
    ),
    Fault(
        "journal-of-another-run-is-taken-up",
        "checkpoint/journal.py",
        "                self._check_identity(entry, identity)\n",
        "                pass\n",
        (RESUME,),
    ),
    Fault(
        "journal-goes-on-behind-a-broken-line",
        "checkpoint/journal.py",
        "            if entry is None:\n                break",
        "            if entry is None:\n                continue",
        (JOURNAL,),
    ),
    Fault(
        "journal-is-not-cut",
        "checkpoint/journal.py",
        "        os.ftruncate(self._handle, self._length)\n        return",
        "        return",
        (JOURNAL,),
    ),
    Fault(
        "two-runs-share-the-lock",
        "checkpoint/journal.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        (EXCLUSION,),
    ),
    Fault(
        "restart-keeps-what-was-there",
        "checkpoint/partial.py",
        "if restart and self.files.exists():",
        "if restart and not self.files.exists():",
        (RESUME,),
    ),
    Fault(
        "folder-of-another-program-is-taken",
        "checkpoint/partial.py",
        " and not self.journal.path.is_file():",
        " and not self.folder.exists():",
        (EXCLUSION,),
    ),
    Fault(
        "file-that-has-grown-keeps-its-end", "checkpoint/partial.py", "    os.ftruncate(handle, size)\n", "", (RESUME,)
    ),
    Fault(
        "renamed-before-it-is-on-the-disk",
        "checkpoint/partial.py",
        "for path in (*self.files.iterdir(), self.files):",
        "for path in (self.files,):",
        (DURABILITY,),
    ),
    Fault(
        "chunk-at-an-offset-of-elements",
        "checkpoint/reading.py",
        "stored.start + start * stored.dtype.itemsize",
        "stored.start + start",
        (READING,),
    ),
    Fault(
        "last-chunk-is-dropped",
        "checkpoint/reading.py",
        "for start in range(0, stored.count, elements):",
        "for start in range(0, max(1, stored.count - elements), elements):",
        (READING,),
    ),
    Fault("short-read-is-taken-for-whole", "checkpoint/reading.py", "if got < len(target):", "if got < 0:", (READING,)),
    Fault(
        "short-read-is-not-continued",
        "checkpoint/file_io.py",
        "        done += got\n    return done",
        "        done += got\n        break\n    return done",
        (READING,),
    ),
    Fault(
        "short-write-is-not-continued",
        "checkpoint/file_io.py",
        "    while data:\n",
        "    if data:\n",
        (f"{CHECKPOINT}/test_jobs.py", DISK_FULL),
    ),
    Fault(
        "offset-of-each-chunk-by-itself",
        "checkpoint/tensor_jobs.py",
        "absmax[start : start + ABSMAX_CHUNK], offset)",
        "absmax[start : start + ABSMAX_CHUNK])",
        (TENSOR_JOBS,),
    ),
    Fault(
        "codes-of-the-dtype-on-disk",
        "checkpoint/tensor_jobs.py",
        "        yield chunk.to(dtype)\n",
        "        yield chunk.float()\n",
        (TENSOR_JOBS,),
    ),
    Fault(
        "transposed-weight-is-read-as-it-lies",
        "checkpoint/tensor_jobs.py",
        "whole.view(stored.shape).t().contiguous()",
        "whole.view(stored.shape).contiguous()",
        (TENSOR_JOBS,),
    ),
    Fault(
        "chunks-that-are-no-whole-rows",
        "checkpoint/tensor_jobs.py",
        "return max(1, CHUNK_ELEMENTS // max(1, shape[1])) * shape[1]",
        "return CHUNK_ELEMENTS",
        (TENSOR_JOBS,),
    ),
    Fault(
        "absmax-of-all-chunks-in-the-place-of-the-first",
        "checkpoint/tensor_jobs.py",
        "            filled += absmax.numel()\n",
        "",
        (TENSOR_JOBS,),
    ),
    Fault(
        "cast-to-infinity",
        "checkpoint/tensor_jobs.py",
        "if not torch.equal(kept, were):",
        "if kept.numel() != were.numel():",
        (TENSOR_JOBS,),
    ),
    Fault(
        "infinite-parameter-is-copied",
        "checkpoint/tensor_jobs.py",
        "    if finite:\n",
        "    if finite and before.dtype != after.dtype:\n",
        (TENSOR_JOBS,),
    ),
    Fault(
        "tensors-are-not-verified",
        "checkpoint/manifest.py",
        'if digest != entry["tensors"].get(name):',
        'if name not in entry["tensors"]:',
        (MANIFEST,),
    ),
    Fault(
        "added-weights-are-trusted",
        "checkpoint/manifest.py",
        "if path.name not in files:",
        "if not files:",
        (MANIFEST,),
    ),
    Fault(
        "small-files-are-not-verified",
        "checkpoint/manifest.py",
        'if describe_file(folder / name)["sha256"] != entry["sha256"]:',
        'if not entry["sha256"]:',
        (MANIFEST,),
    ),
    Fault(
        "manifest-of-a-failing-disk",
        "checkpoint/finishing.py",
        'if entry["tensors"][tensor.name] != partial.journal.finished[tensor.file, tensor.name]:',
        'if tensor.name not in entry["tensors"]:',
        (DISK_FULL,),
    ),
    Fault(
        "files-of-the-interrupted-run-stay",
        "checkpoint/finishing.py",
        "            path.unlink()\n",
        "            pass\n",
        (RESUME,),
    ),
    Fault(
        "pickles-are-copied",
        "checkpoint/small_files.py",
        'SMALL_FILES = ("*.json",',
        'SMALL_FILES = ("*.bin", "*.json",',
        ("tests/unit/test_checkpoint_quantization_files.py",),
    ),
    Fault(
        "code-is-copied-unasked",
        "checkpoint/small_files.py",
        "(CODE_FILES if trust_remote_code else ())",
        "CODE_FILES",
        ("tests/unit/test_checkpoint_quantization_files.py",),
    ),
    Fault(
        "levels-of-bitsandbytes-are-not-compared",
        "checkpoint/bitsandbytes_layout.py",
        "    if not same:\n",
        "    if stored.numel() != len(levels):\n",
        (BITSANDBYTES,),
    ),
    Fault(
        "repacked-absmax-is-taken",
        "checkpoint/bitsandbytes_layout.py",
        "if (absmax.dtype, absmax.shape) != (expected.dtype, expected.shape):",
        "if absmax.numel() != expected.numel():",
        (BITSANDBYTES,),
    ),
    Fault(
        "tag-of-another-scheme-is-written",
        "checkpoint/bitsandbytes_layout.py",
        "if tag != quantized.scheme.format_tag:",
        "if len(tag) != 4:",
        (BITSANDBYTES,),
    ),
    Fault(
        "offset-loses-its-decimals",
        "checkpoint/bitsandbytes_state.py",
        "= state.offset.item()",
        "= round(state.offset.item(), 6)",
        (STATE,),
    ),
    Fault(
        "shape-written-the-wrong-way-round",
        "checkpoint/bitsandbytes_state.py",
        '"shape": list(state.shape),',
        '"shape": list(state.shape)[::-1],',
        (STATE,),
    ),
    Fault(
        "parts-of-layers-are-copied-twice",
        "checkpoint/bitsandbytes_jobs.py",
        "in tensors.items() if name not in spent",
        "in tensors.items() if name not in spent or jobs",
        (f"{CHECKPOINT}/test_bitsandbytes_jobs.py",),
    ),
)
