"""Mistakes in reading and laying out checkpoints: `quant/checkpoint`."""

from tests.mutation.fault import Fault

BITSANDBYTES_JOBS = "tests/unit/checkpoint/test_bitsandbytes_jobs.py"
BITSANDBYTES_LAYOUT = "tests/unit/checkpoint/test_bitsandbytes_layout.py"
BITSANDBYTES_STATE = "tests/unit/checkpoint/test_bitsandbytes_state.py"
FOLDER = "tests/unit/checkpoint/test_folder.py"
HEADERS = "tests/unit/checkpoint/test_headers.py"
LAYOUT = "tests/unit/checkpoint/test_layout.py"
MANIFEST = "tests/unit/checkpoint/test_manifest.py"
READING = "tests/unit/checkpoint/test_reading.py"
CHECKPOINT_QUANTIZATION_FILES = "tests/unit/test_checkpoint_quantization_files.py"

FAULTS = (
    Fault(
        "shard-is-skipped",
        "checkpoint/folder.py",
        "for header in self.files.values() for name",
        "for header in [*self.files.values()][:1] for name",
        f"{FOLDER}::test_shards_are_opened_with_all_their_tensors",
    ),
    Fault(
        "index-is-believed",
        "checkpoint/folder.py",
        "        _check_index(index, weight_map, files)\n",
        "",
        f"{FOLDER}::test_what_does_not_fit_is_refused_by_name",
    ),
    Fault(
        "index-leads-outside-the-folder",
        "checkpoint/folder.py",
        ' and not set(name) & set("/\\\\\\0")',
        "",
        f"{FOLDER}::test_an_index_may_name_no_file_outside_the_folder",
    ),
    Fault(
        "tensor-that-the-index-lacks-is-taken",
        "checkpoint/folder.py",
        "listed = weight_map.get(tensor)",
        "listed = weight_map.get(tensor, file)",
        f"{FOLDER}::test_what_does_not_fit_is_refused_by_name",
    ),
    Fault(
        "half-precisions-exchanged",
        "checkpoint/headers.py",
        '"BF16": torch.bfloat16,\n    "F16": torch.float16,',
        '"BF16": torch.float16,\n    "F16": torch.bfloat16,',
        f"{HEADERS}::test_a_header_says_what_the_library_says",
    ),
    Fault(
        "gap-in-a-file-is-accepted",
        "checkpoint/headers.py",
        "if tensor.start != start:",
        "if tensor.start < start:",
        f"{HEADERS}::test_a_damaged_header_is_refused",
    ),
    Fault(
        "appended-bytes-are-accepted",
        "checkpoint/headers.py",
        "    if start < size:\n",
        "    if start > size:\n",
        f"{HEADERS}::test_a_damaged_header_is_refused",
    ),
    Fault(
        "name-that-occurs-twice-is-accepted",
        "checkpoint/headers.py",
        "if len(table) < len(pairs):",
        "if len(table) > len(pairs):",
        f"{HEADERS}::test_a_damaged_header_is_refused",
    ),
    Fault(
        "size-of-a-tensor-is-believed",
        "checkpoint/headers.py",
        "if end - begin != prod(shape) * dtype.itemsize:",
        "if end - begin < prod(shape):",
        f"{HEADERS}::test_a_damaged_header_is_refused",
    ),
    Fault(
        "header-is-not-padded",
        "checkpoint/layout.py",
        "(-len(text) % ALIGNMENT)",
        "(-len(text) % 1)",
        f"{LAYOUT}::test_the_bytes_are_the_librarys",
    ),
    Fault(
        "tensors-in-alphabetical-order",
        "checkpoint/layout.py",
        "return RANKS[tensor.dtype], tensor.name",
        "return 0, tensor.name",
        f"{LAYOUT}::test_the_bytes_are_the_librarys",
    ),
    Fault(
        "offsets-without-the-header",
        "checkpoint/layout.py",
        "len(header) + start for n, start",
        "start for n, start",
        f"{LAYOUT}::test_the_bytes_are_the_librarys",
    ),
    Fault(
        "header-of-another-dtype",
        "checkpoint/layout.py",
        '"dtype": NAMES[tensor.dtype],',
        '"dtype": NAMES[tensor.dtype].replace("BF16", "F16"),',
        f"{LAYOUT}::test_the_bytes_are_the_librarys",
    ),
    Fault(
        "total-size-counts-elements",
        "checkpoint/layout.py",
        "sum(tensor.nbytes for tensor in tensors)",
        "sum(tensor.nbytes // tensor.dtype.itemsize for tensor in tensors)",
        f"{LAYOUT}::test_an_index_lists_every_tensor_and_their_bytes",
    ),
    Fault(
        "chunk-at-an-offset-of-elements",
        "checkpoint/reading.py",
        "stored.start + start * stored.dtype.itemsize",
        "stored.start + start",
        f"{READING}::test_chunks_are_the_tensor_in_order",
    ),
    Fault(
        "last-chunk-is-dropped",
        "checkpoint/reading.py",
        "for start in range(0, stored.count, elements):",
        "for start in range(0, max(1, stored.count - elements), elements):",
        f"{READING}::test_chunks_are_the_tensor_in_order",
    ),
    Fault(
        "short-read-is-taken-for-whole",
        "checkpoint/reading.py",
        "if got < len(target):",
        "if got < 0:",
        f"{READING}::test_a_file_that_becomes_shorter_is_refused",
    ),
    Fault(
        "tensors-are-not-verified",
        "checkpoint/manifest.py",
        'if digest != entry["tensors"].get(name):',
        'if name not in entry["tensors"]:',
        f"{MANIFEST}::test_a_flipped_bit_anywhere_in_the_data_is_found_with_its_tensor",
    ),
    Fault(
        "added-weights-are-trusted",
        "checkpoint/manifest.py",
        "if path.name not in files:",
        "if not files:",
        f"{MANIFEST}::test_what_is_not_as_it_was_written_is_named",
    ),
    Fault(
        "small-files-are-not-verified",
        "checkpoint/manifest.py",
        'if describe_file(folder / name)["sha256"] != entry["sha256"]:',
        'if not entry["sha256"]:',
        f"{MANIFEST}::test_a_flipped_bit_in_a_small_file_is_found",
    ),
    Fault(
        "pickles-are-copied",
        "checkpoint/small_files.py",
        'SMALL_FILES = ("*.json",',
        'SMALL_FILES = ("*.bin", "*.json",',
        f"{CHECKPOINT_QUANTIZATION_FILES}::test_small_files_are_copied_and_pickles_and_code_are_not",
    ),
    Fault(
        "code-is-copied-unasked",
        "checkpoint/small_files.py",
        "(CODE_FILES if trust_remote_code else ())",
        "CODE_FILES",
        f"{CHECKPOINT_QUANTIZATION_FILES}::test_small_files_are_copied_and_pickles_and_code_are_not",
    ),
    Fault(
        "levels-of-bitsandbytes-are-not-compared",
        "checkpoint/bitsandbytes_layout.py",
        "    if not same:\n",
        "    if stored.numel() != len(levels):\n",
        f"{BITSANDBYTES_LAYOUT}::test_what_does_not_fit_is_refused_by_name",
    ),
    Fault(
        "repacked-absmax-is-taken",
        "checkpoint/bitsandbytes_layout.py",
        "if (absmax.dtype, absmax.shape) != (expected.dtype, expected.shape):",
        "if absmax.numel() != expected.numel():",
        f"{BITSANDBYTES_LAYOUT}::test_what_does_not_fit_is_refused_by_name",
    ),
    Fault(
        "tag-of-another-scheme-is-written",
        "checkpoint/bitsandbytes_layout.py",
        "if tag != quantized.scheme.format_tag:",
        "if len(tag) != 4:",
        f"{BITSANDBYTES_LAYOUT}::test_tensors_of_another_scheme_are_not_written",
    ),
    Fault(
        "offset-loses-its-decimals",
        "checkpoint/bitsandbytes_state.py",
        "= state.offset.item()",
        "= round(state.offset.item(), 6)",
        f"{BITSANDBYTES_STATE}::test_it_is_read_and_written_to_the_byte",
    ),
    Fault(
        "shape-written-the-wrong-way-round",
        "checkpoint/bitsandbytes_state.py",
        '"shape": list(state.shape),',
        '"shape": list(state.shape)[::-1],',
        f"{BITSANDBYTES_STATE}::test_it_is_read_and_written_to_the_byte",
    ),
    Fault(
        "parts-of-layers-are-copied-twice",
        "checkpoint/bitsandbytes_jobs.py",
        "in tensors.items() if name not in spent",
        "in tensors.items() if name not in spent or jobs",
        f"{BITSANDBYTES_JOBS}::test_layers_spread_over_shards_are_put_together_where_their_codes_are",
    ),
)
