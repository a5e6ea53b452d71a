"""Mistakes in converting checkpoints, interrupted or not: `quant/checkpoint`."""

from tests.mutation.fault import Fault

DISK_FULL = "tests/unit/checkpoint/test_disk_full.py"
DURABILITY = "tests/unit/checkpoint/test_durability.py"
EXCLUSION = "tests/unit/checkpoint/test_exclusion.py"
JOBS = "tests/unit/checkpoint/test_jobs.py"
JOURNAL = "tests/unit/checkpoint/test_journal.py"
READING = "tests/unit/checkpoint/test_reading.py"
RESUME = "tests/unit/checkpoint/test_resume.py"
TENSOR_JOBS = "tests/unit/checkpoint/test_tensor_jobs.py"

FAULTS = (
    Fault(
        "resumes-over-inputs-that-were-saved-anew",
        "checkpoint/run.py",
        "[header.size, header.digest, header.modified]",
        "[header.size, header.digest]",
        f"{RESUME}::test_inputs_that_were_saved_anew_are_refused",
    ),
    Fault(
        "resume-reuses-a-damaged-tensor",
        "checkpoint/run.py",
        "if None in entered or entered != [self._partial.digest(tensor) for tensor in job.outputs]:",
        "if None in entered:",
        f"{RESUME}::test_a_finished_tensor_that_was_damaged_is_done_again",
    ),
    Fault(
        "resume-does-everything-again",
        "checkpoint/run.py",
        "            if self._is_intact(job):\n",
        "            if False and self._is_intact(job):\n",
        f"{RESUME}::test_what_is_finished_is_not_done_again",
    ),
    Fault(
        "resume-with-other-settings",
        "checkpoint/run.py",
        '"input files": inputs, **plan.settings,',
        '"input files": inputs,',
        f"{RESUME}::test_another_scheme_is_refused_and_restart_discards",
    ),
    Fault(
        "entered-before-it-is-on-the-disk",
        "checkpoint/run.py",
        "                self._partial.sync(job)\n",
        "",
        f"{DURABILITY}::test_a_tensor_is_entered_after_its_file_was_brought_to_the_disk",
    ),
    Fault(
        "existing-folder-is-overwritten",
        "checkpoint/run.py",
        "    if taken:\n",
        "    if taken and not resolved.is_dir():\n",
        f"{EXCLUSION}::test_what_is_there_is_never_replaced",
    ),
    Fault(
        "inputs-that-change-under-way",
        "checkpoint/run.py",
        "                inputs.check_unchanged()\n",
        "",
        f"{RESUME}::test_inputs_that_change_under_way_are_refused",
    ),
    Fault(
        "first-chunk-is-written-over",
        "checkpoint/run.py",
        "written[name], data)",
        "0, data)",
        f"{JOBS}::test_chunks_of_several_outputs_may_alternate_and_have_any_shape",
    ),
    Fault(
        "incomplete-tensor-is-finished",
        "checkpoint/run.py",
        "if written[name] != tensor.nbytes:",
        "if written[name] > tensor.nbytes:",
        f"{JOBS}::test_what_is_not_planned_is_no_tensor",
    ),
    Fault(
        "journal-of-another-run-is-taken-up",
        "checkpoint/journal.py",
        "                self._check_identity(entry, identity)\n",
        "                pass\n",
        f"{RESUME}::test_another_scheme_is_refused_and_restart_discards",
    ),
    Fault(
        "journal-goes-on-behind-a-broken-line",
        "checkpoint/journal.py",
        "            if entry is None:\n                break",
        "            if entry is None:\n                continue",
        f"{JOURNAL}::test_a_journal_line_that_is_none_ends_the_journal",
    ),
    Fault(
        "journal-is-not-cut",
        "checkpoint/journal.py",
        "        os.ftruncate(self._handle, self._length)\n        return",
        "        return",
        f"{JOURNAL}::test_what_follows_a_line_that_is_none_is_kept_the_next_time",
    ),
    Fault(
        "two-runs-share-the-lock",
        "checkpoint/journal.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        f"{EXCLUSION}::test_two_runs_into_one_folder_exclude_each_other",
    ),
    Fault(
        "restart-keeps-what-was-there",
        "checkpoint/partial.py",
        "if restart and self.files.exists():",
        "if restart and not self.files.exists():",
        f"{RESUME}::test_another_scheme_is_refused_and_restart_discards",
    ),
    Fault(
        "folder-of-another-program-is-taken",
        "checkpoint/partial.py",
        " and not self.journal.path.is_file():",
        " and not self.folder.exists():",
        f"{EXCLUSION}::test_a_folder_of_that_name_that_is_none_of_ours_is_left_alone",
    ),
    Fault(
        "file-that-has-grown-keeps-its-end",
        "checkpoint/partial.py",
        "    os.ftruncate(handle, size)\n",
        "",
        f"{RESUME}::test_a_file_that_has_grown_is_cut_to_its_size",
    ),
    Fault(
        "renamed-before-it-is-on-the-disk",
        "checkpoint/partial.py",
        "for path in (*self.files.iterdir(), self.files):",
        "for path in (self.files,):",
        f"{DURABILITY}::test_every_file_and_the_folder_are_on_the_disk_before_the_rename_and_its_folder_after",
    ),
    Fault(
        "short-read-is-not-continued",
        "checkpoint/file_io.py",
        "        done += got\n    return done",
        "        done += got\n        break\n    return done",
        f"{READING}::test_short_reads_are_continued",
    ),
    Fault(
        "short-write-is-not-continued",
        "checkpoint/file_io.py",
        "    while data:\n",
        "    if data:\n",
        f"{JOBS}::test_short_writes_are_continued",
    ),
    Fault(
        "offset-of-each-chunk-by-itself",
        "checkpoint/tensor_jobs.py",
        "absmax[start : start + ABSMAX_CHUNK], offset)",
        "absmax[start : start + ABSMAX_CHUNK])",
        f"{TENSOR_JOBS}::test_double_quantization_in_chunks_has_the_codes_of_the_whole",
    ),
    Fault(
        "codes-of-the-dtype-on-disk",
        "checkpoint/tensor_jobs.py",
        "        yield chunk.to(dtype)\n",
        "        yield chunk.float()\n",
        f"{TENSOR_JOBS}::test_the_codes_are_those_of_the_weight_in_the_models_dtype",
    ),
    Fault(
        "transposed-weight-is-read-as-it-lies",
        "checkpoint/tensor_jobs.py",
        "whole.view(stored.shape).t().contiguous()",
        "whole.view(stored.shape).contiguous()",
        f"{TENSOR_JOBS}::test_a_transposed_weight_has_the_codes_of_the_matrix",
    ),
    Fault(
        "chunks-that-are-no-whole-rows",
        "checkpoint/tensor_jobs.py",
        "return max(1, CHUNK_ELEMENTS // max(1, shape[1])) * shape[1]",
        "return CHUNK_ELEMENTS",
        f"{TENSOR_JOBS}::test_chunks_have_the_codes_of_the_whole",
    ),
    Fault(
        "absmax-of-all-chunks-in-the-place-of-the-first",
        "checkpoint/tensor_jobs.py",
        "            filled += absmax.numel()\n",
        "",
        f"{TENSOR_JOBS}::test_chunks_have_the_codes_of_the_whole",
    ),
    Fault(
        "cast-to-infinity",
        "checkpoint/tensor_jobs.py",
        "if not torch.equal(kept, were):",
        "if kept.numel() != were.numel():",
        f"{TENSOR_JOBS}::test_a_cast_that_would_make_values_infinite_is_refused",
    ),
    Fault(
        "infinite-parameter-is-copied",
        "checkpoint/tensor_jobs.py",
        "    if finite:\n",
        "    if finite and before.dtype != after.dtype:\n",
        f"{TENSOR_JOBS}::test_a_parameter_that_is_not_finite_is_refused",
    ),
    Fault(
        "manifest-of-a-failing-disk",
        "checkpoint/finishing.py",
        'if entry["tensors"][tensor.name] != partial.journal.finished[tensor.file, tensor.name]:',
        'if tensor.name not in entry["tensors"]:',
        f"{DISK_FULL}::test_bytes_that_are_not_what_was_written_are_told",
    ),
    Fault(
        "files-of-the-interrupted-run-stay",
        "checkpoint/finishing.py",
        "            path.unlink()\n",
        "            pass\n",
        f"{RESUME}::test_files_that_only_the_interrupted_run_copied_do_not_stay",
    ),
)
