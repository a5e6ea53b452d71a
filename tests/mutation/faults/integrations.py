"""Mistakes around other libraries and whole checkpoints: `quant/integrations`, `quant/checkpoint_*.py`."""

from tests.mutation.fault import Fault

LOADING_REFUSALS = "tests/unit/integrations/test_loading_refusals.py"
MARKING = "tests/unit/integrations/test_marking.py"
PEFT = "tests/unit/integrations/test_peft.py"
QUANTIZATION_CONFIG = "tests/unit/integrations/test_quantization_config.py"
ROUND_TRIP = "tests/unit/integrations/test_round_trip.py"
SKELETON = "tests/unit/integrations/test_skeleton.py"
CHECKPOINT_CONVERSION = "tests/unit/test_checkpoint_conversion.py"
CHECKPOINT_CONVERSION_REFUSALS = "tests/unit/test_checkpoint_conversion_refusals.py"
CHECKPOINT_QUANTIZATION = "tests/unit/test_checkpoint_quantization.py"
CHECKPOINT_QUANTIZATION_REFUSALS = "tests/unit/test_checkpoint_quantization_refusals.py"
CLI_CONVERT = "tests/unit/test_cli_convert.py"
COMPARE_SCHEMES = "tests/unit/test_compare_schemes.py"
FOREIGN_CHECKPOINTS = "tests/unit/test_foreign_checkpoints.py"

FAULTS = (
    Fault(
        "exclude-is-lost-on-load",
        "integrations/quantizer.py",
        "select(model, config.include, config.exclude)",
        "select(model, config.include)",
        f"{ROUND_TRIP}::test_the_head_and_chosen_layers",
    ),
    Fault(
        "missing-codes-are-left-undefined",
        "integrations/quantizer.py",
        "            check_loaded(name, layer, self._found)\n",
        "            pass\n",
        f"{LOADING_REFUSALS}::test_each_stored_tensor_is_missed_by_name",
    ),
    Fault(
        "pickles-are-loaded",
        "integrations/quantizer.py",
        "        if pickles:\n",
        "        if not pickles and checkpoint_files is None:\n",
        f"{LOADING_REFUSALS}::test_pickled_weights_are_refused",
    ),
    Fault(
        "nan-while-loading-is-forgotten",
        "integrations/quantizer.py",
        "        if self.errors:\n",
        "        if self.errors and self.pre_quantized:\n",
        f"{LOADING_REFUSALS}::test_nan_stops_the_loading",
    ),
    Fault(
        "configuration-is-shared-between-models",
        "integrations/quantizer.py",
        "copy.deepcopy(quantization_config)",
        "quantization_config",
        f"{QUANTIZATION_CONFIG}::test_a_quantizer_leaves_the_configuration_alone",
    ),
    Fault(
        "saved-with-the-layers-it-was-loaded-with",
        "integrations/quantizer.py",
        "model.config.quantization_config = self.quantization_config = _config_of(model, layers)",
        "model.config.quantization_config = self.quantization_config",
        f"{ROUND_TRIP}::test_saving_reports_the_layers_that_are_there",
    ),
    Fault(
        "several-schemes-saved-as-one",
        "integrations/quantizer.py",
        "if len(schemes) > 1:",
        "if len(schemes) < 1:",
        f"{LOADING_REFUSALS}::test_layers_of_two_schemes_cannot_be_saved_as_one",
    ),
    Fault(
        "newer-format-is-misread",
        "integrations/quantization_config.py",
        "not 1 <= format_version <= FORMAT_VERSION",
        "not 1 <= format_version",
        f"{QUANTIZATION_CONFIG}::test_bad_options_are_refused",
    ),
    Fault(
        "unknown-option-is-ignored",
        "integrations/quantization_config.py",
        "        unknown = sorted(",
        "        options = {key: options[key] for key in known if key in options}\n        unknown = sorted(",
        f"{QUANTIZATION_CONFIG}::test_bad_options_are_refused",
    ),
    Fault(
        "string-becomes-a-list-of-letters",
        "integrations/quantization_config.py",
        "return [names] if isinstance(names, str) else list(names)",
        "return list(names)",
        f"{QUANTIZATION_CONFIG}::test_config_json_holds_this",
    ),
    Fault(
        "tag-of-another-scheme-is-loaded",
        "integrations/loading.py",
        "        if tag != layer.scheme.format_tag:\n",
        "        if len(tag) != 4:\n",
        f"{LOADING_REFUSALS}::test_a_configuration_that_does_not_fit_is_refused",
    ),
    Fault(
        "layers-without-a-head-lose-their-prefix",
        "integrations/loading.py",
        "(name, name.removeprefix(prefix)) if headless",
        "(name,) if headless",
        f"{ROUND_TRIP}::test_a_model_without_head_has_the_names_without_its_prefix",
    ),
    Fault(
        "dequantized-model-is-still-marked",
        "integrations/marking.py",
        "            _unmark(pretrained)\n",
        "            pass\n",
        f"{ROUND_TRIP}::test_dequantized_models_are_float_for_transformers_too",
    ),
    Fault(
        "marks-of-another-library-are-removed",
        "integrations/marking.py",
        "elif _is_ours(pretrained):",
        "else:",
        f"{MARKING}::test_the_marks_of_another_library_stay",
    ),
    Fault(
        "adapter-is-merged-into-codes",
        "integrations/peft.py",
        "        if type(base) is not nn.Linear:\n",
        "        if base is None:\n",
        "tests/contract/battery/test_adapters.py::test_merging_into_codes_is_refused_and_changes_nothing",
    ),
    Fault(
        "adapter-that-reads-the-weight",
        "integrations/peft.py",
        "config.use_dora or config.init_lora_weights not in INITIALISATIONS",
        "config.init_lora_weights not in INITIALISATIONS",
        f"{PEFT}::test_adapters_that_read_the_weight_are_refused",
    ),
    Fault(
        "float32-tensors-are-cast",
        "integrations/skeleton.py",
        "torch.float32 if kept.search(name) else expected[name].dtype",
        "expected[name].dtype",
        f"{CHECKPOINT_QUANTIZATION}::test_what_an_architecture_keeps_in_float32_stays_so",
    ),
    Fault(
        "tensor-of-another-shape-is-taken",
        "integrations/skeleton.py",
        "if tensor.shape != tuple(expected[name].shape):",
        "if len(tensor.shape) != expected[name].dim():",
        f"{CHECKPOINT_QUANTIZATION_REFUSALS}::test_a_checkpoint_that_does_not_fit_is_refused_with_file_and_tensor",
    ),
    Fault(
        "missing-tensor-is-not-missed",
        "integrations/skeleton.py",
        "if not any(name in stored or ignored.search(name) for name in aliases):",
        "if not aliases:",
        f"{SKELETON}::test_a_tensor_may_be_missing_where_the_architecture_says_so",
    ),
    Fault(
        "adapter-folder-is-taken-for-a-model",
        "integrations/hub.py",
        "    _check_no_adapter(path)\n",
        "",
        f"{CLI_CONVERT}::test_an_adapter_is_refused",
    ),
    Fault(
        "quantized-checkpoint-is-taken-for-float",
        "integrations/hub.py",
        "if quantized and not allow_quantized:",
        "if quantized and allow_quantized:",
        f"{FOREIGN_CHECKPOINTS}::test_a_quantized_config_is_refused_before_the_weights_are_fetched",
    ),
    Fault(
        "bitsandbytes-is-loaded-as-another-format",
        "integrations/bitsandbytes.py",
        'bnb_4bit_quant_type=name.removeprefix("bnb-")',
        'bnb_4bit_quant_type="nf4"',
        f"{COMPARE_SCHEMES}::test_every_variant_makes_a_record",
    ),
    Fault(
        "skipped-modules-are-forgotten",
        "integrations/bitsandbytes_config.py",
        "left = [name for name in layers if name not in quantized]",
        "left = []",
        f"{CHECKPOINT_CONVERSION}::test_bitsandbytes_is_told_what_it_needs_to_load",
    ),
    Fault(
        "include-is-lost-for-a-checkpoint",
        "checkpoint_quantization.py",
        "select(skeleton, included_by(name, skeleton, include), exclude)",
        "select(skeleton, included_by(name, skeleton), exclude)",
        f"{CHECKPOINT_QUANTIZATION}::test_include_and_exclude_mean_what_they_mean_in_memory",
    ),
    Fault(
        "config-without-its-quantization",
        "checkpoint_quantization.py",
        '    config["quantization_config"] = our_config(scheme, selection.chosen)\n',
        "",
        f"{CHECKPOINT_QUANTIZATION}::test_from_pretrained_loads_the_folder_as_the_model_that_was_quantized_in_memory",
    ),
    Fault(
        "another-dtype-is-declared",
        "checkpoint_conversion.py",
        "    if declared != dtype:\n",
        "    if not declared:\n",
        f"{CHECKPOINT_CONVERSION_REFUSALS}::test_a_checkpoint_of_bitsandbytes_that_does_not_fit_is_refused",
    ),
    Fault(
        "options-of-the-scheme-are-not-written",
        "integrations/quantization_config.py",
        "            **self.scheme.options,\n",
        "",
        f"{QUANTIZATION_CONFIG}::test_what_is_written_is_read_back",
    ),
    Fault(
        "missing-bias-is-left-undefined",
        "integrations/loading.py",
        '{**layer.stored, **({} if layer.bias is None else {"bias": layer.bias})}',
        "layer.stored",
        f"{LOADING_REFUSALS}::test_a_missing_bias_is_missed_by_name",
    ),
)
