"""Mistakes in sharing the work between processes and in placing a model on devices."""

from tests.mutation.fault import Fault

CLI = "tests/unit/test_cli_processes.py"
COMPARE = "tests/unit/test_compare_processes.py"
DEVICES = "tests/unit/evaluate/test_devices.py"
PLACEMENT = "tests/unit/test_placement.py"
PROCESSES = "tests/unit/evaluate/test_processes.py"
SHARED = "tests/unit/evaluate/test_shared_windows.py"

FAULTS = (
    Fault(
        "a-process-of-several-takes-the-interpreter-down",
        "evaluate/processes.py",
        "            os._exit(code)\n",
        "            return\n",
        f"{PROCESSES}::test_one_of_several_is_gone_when_what_was_registered_has_run_and_been_written",
    ),
    Fault(
        "shares-overlap",
        "evaluate/processes.py",
        "(self.rank + 1) * count // self.size)",
        "-(-(self.rank + 1) * count // self.size))",
        f"{PROCESSES}::test_shares_follow_each_other_and_make_up_the_whole",
    ),
    Fault(
        "shares-leave-out-the-rest",
        "evaluate/processes.py",
        "range(self.rank * count // self.size, (self.rank + 1) * count // self.size)",
        "range(self.rank * (count // self.size), (self.rank + 1) * (count // self.size))",
        f"{SHARED}::test_results_are_those_of_a_single_process_to_the_last_bit",
    ),
    Fault(
        "gathered-out-of-order",
        "evaluate/divergence.py",
        "zip(*self._processes.gather(run), strict=True)",
        "zip(*reversed(self._processes.gather(run)), strict=True)",
        f"{SHARED}::test_results_are_those_of_a_single_process_to_the_last_bit",
    ),
    Fault(
        "each-process-measures-everything",
        "evaluate/divergence.py",
        "self._share = processes.share(windows.batch_count(batch_size))",
        "self._share = range(windows.batch_count(batch_size))",
        f"{SHARED}::test_results_are_those_of_a_single_process_to_the_last_bit",
    ),
    Fault(
        "recomputed-logits-of-all-windows",
        "evaluate/divergence.py",
        "self.batch_size, share=self._share):",
        "self.batch_size):",
        f"{SHARED}::test_results_are_those_of_a_single_process_to_the_last_bit",
    ),
    Fault(
        "error-names-the-window-of-another-share",
        "evaluate/windows.py",
        "                advance(end + 1 - first)\n        index += len(spans)",
        "                advance(end + 1 - first)\n            index += len(spans)",
        f"{SHARED}::test_an_error_in_one_share_ends_all_with_its_message",
    ),
    Fault(
        "error-of-another-process-is-swallowed",
        "evaluate/processes.py",
        "            if message is not None:\n                raise QuantError(message[1]) from failure\n",
        "            if message is not None and failure is not None:\n                raise failure\n",
        f"{PROCESSES}::test_an_error_in_one_process_is_every_one_s",
    ),
    Fault(
        "crash-of-another-process-is-bad-input",
        "evaluate/processes.py",
        'raise RuntimeError(f"process {rank} of',
        'raise QuantError(f"process {rank} of',
        f"{PROCESSES}::test_an_error_of_another_kind_ends_all_and_is_not_taken_for_bad_input",
    ),
    Fault(
        "all-processes-time-at-once",
        "evaluate/processes.py",
        "work() if self.main else None",
        "work()",
        f"{PROCESSES}::test_the_main_process_alone_does_its_work",
    ),
    Fault(
        "gpus-counted-over-all-machines",
        "evaluate/processes.py",
        'return f"cuda:{self.local_rank}"',
        'return f"cuda:{self.rank}"',
        f"{PROCESSES}::test_each_process_has_the_gpu_of_its_place_on_the_machine",
    ),
    Fault(
        "each-process-spreads-over-all-gpus",
        "evaluate/processes.py",
        'if self.size == 1 or device == "cpu":',
        'if self.size == 1 or device in ("auto", "cpu"):',
        f"{COMPARE}::test_a_device_that_they_cannot_have",
    ),
    Fault(
        "processes-of-other-texts",
        "compare.py",
        "    _check_alike(request, processes)\n",
        "",
        f"{COMPARE}::test_processes_that_would_measure_something_else",
    ),
    Fault(
        "every-process-complains",
        "cli/__init__.py",
        "            if processes.main:\n                _tell(message)\n",
        "            _tell(message)\n",
        f"{CLI}::test_the_main_process_tells_and_all_end_with_its_code",
    ),
    Fault(
        "every-process-writes-the-report",
        "cli/compare.py",
        "    if processes.main:\n        _deliver(",
        "    if processes.size:\n        _deliver(",
        f"{CLI}::test_the_main_process_prints_and_writes",
    ),
    Fault(
        "launcher-hears-of-no-failure",
        "evaluate/processes.py",
        'max(self._exchange("end", code))',
        'min(self._exchange("end", code))',
        f"{PROCESSES}::test_all_end_with_the_highest_code",
    ),
    Fault(
        "inputs-go-where-nothing-is",
        "evaluate/devices.py",
        'return torch.device("cpu") if device.type == "meta" and hasattr(model, "_hf_hook") else device',
        "return device",
        f"{PLACEMENT}::test_what_does_not_fit_changes_no_figure_and_is_told",
    ),
    Fault(
        "codes-stay-where-they-do-not-fit",
        "integrations/transformers.py",
        'offload_buffers=device == "auto",',
        "offload_buffers=False,",
        f"{PLACEMENT}::test_codes_that_do_not_fit_are_left_out_too",
    ),
    Fault(
        "offloading-is-not-told",
        "evaluate/devices.py",
        "if tensor.is_meta)",
        "if tensor is None)",
        f"{DEVICES}::test_offloaded_bytes_are_those_of_meta_parameters_and_buffers",
    ),
    Fault(
        "a-place-that-is-not-told-is-the-first",
        "evaluate/processes.py",
        'found = {name: os.environ.get(name, "") for name in names}',
        'found = {name: os.environ.get(name) or "0" for name in names}',
        f"{PROCESSES}::test_a_place_that_is_told_in_part_is_refused",
    ),
    Fault(
        "the-second-of-one-visible-gpu",
        "evaluate/processes.py",
        'return "cuda:0"',
        'return f"cuda:{self.rank}"',
        f"{PROCESSES}::test_a_process_that_sees_one_gpu_has_that_if_no_other_sees_it",
    ),
)
