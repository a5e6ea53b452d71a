"""Mistakes in choosing and replacing layers: `quant/selection.py`, `quant/convert.py`."""

from tests.mutation.fault import Fault

ARCHITECTURES = "tests/unit/integrations/test_architectures.py"
CONVERT = "tests/unit/test_convert.py"
CONVERT_REFUSALS = "tests/unit/test_convert_refusals.py"
CONVERT_TRANSFORMERS = "tests/unit/test_convert_transformers.py"
SELECTION = "tests/unit/test_selection.py"
SELECTION_DECLARATIONS = "tests/unit/test_selection_declarations.py"

FAULTS = (
    Fault(
        "tied-weight-not-detected",
        "selection.py",
        "            if others:\n",
        "            if len(others) > 1:\n",
        f"{SELECTION}::test_tied_weights_are_left_with_the_name_of_the_other_holder",
    ),
    Fault(
        "tie-of-a-skeleton-not-detected",
        "selection.py",
        "if weight.is_meta and name in declared:",
        "if not weight.is_meta and name in declared:",
        f"{SELECTION_DECLARATIONS}::test_ties_that_a_skeleton_declares_hold_both_ways_and_inside_a_part",
    ),
    Fault(
        "exclude-is-not-anchored",
        "selection.py",
        "return any(fnmatch.fnmatchcase(name, pattern) for name in aliases for pattern in patterns)",
        'return any(fnmatch.fnmatchcase(name, f"{pattern}*") for name in aliases for pattern in patterns)',
        f"{SELECTION}::test_a_name_means_that_layer_and_not_those_that_begin_like_it",
    ),
    Fault(
        "only-the-first-name-is-matched",
        "selection.py",
        "for name in aliases for pattern in patterns)",
        "for name in aliases[:1] for pattern in patterns)",
        f"{SELECTION}::test_any_name_of_a_shared_layer_selects_it_once",
    ),
    Fault(
        "misspelt-pattern-is-accepted",
        "selection.py",
        "if not any(fnmatch.fnmatchcase(name, pattern) for name in names):",
        "if not names:",
        f"{SELECTION}::test_a_pattern_that_matches_nothing_is_refused_with_a_hint",
    ),
    Fault(
        "excluding-replaces-the-safe-default",
        "selection.py",
        "if name in heads and name not in fixed:",
        "if name in heads and name not in fixed and not excluded:",
        f"{SELECTION}::test_excluding_adds_to_the_safe_default",
    ),
    Fault(
        "rotary-frequencies-are-rounded",
        "convert.py",
        "    replace_layers(model, assign(model, scheme, include, exclude))\n",
        "    replace_layers(model, assign(model, scheme, include, exclude))\n"
        '    [b.copy_(b.bfloat16()) for n, b in model.named_buffers() if n.endswith("inv_freq")]\n',
        f"{CONVERT_TRANSFORMERS}::test_phi3_keeps_head_embedding_norms_and_rotary_buffers_bit_for_bit",
    ),
    Fault(
        "head-is-quantized-by-default",
        "selection.py",
        'return None if named else "output head"',
        "return None",
        f"{SELECTION}::test_by_default_everything_but_the_head_is_chosen_in_model_order",
    ),
    Fault(
        "wildcard-takes-the-head",
        "selection.py",
        "named = included is not None and not included.isdisjoint(aliases)",
        "named = included is not None and _matches(included, aliases)",
        f"{SELECTION}::test_globs_match_the_whole_dotted_name",
    ),
    Fault(
        "head-is-told-by-its-ending",
        "selection.py",
        'not set(HEAD_NAMES).isdisjoint(name.split("."))',
        "name.endswith(HEAD_NAMES)",
        f"{ARCHITECTURES}::test_both_layers_of_a_classification_head_are_heads",
    ),
    Fault(
        "declared-head-is-not-asked-for",
        "selection.py",
        "if key in returned or any(",
        "if any(",
        f"{SELECTION}::test_a_head_is_known_by_get_output_embeddings_whatever_its_name",
    ),
    Fault(
        "float32-layers-are-quantized",
        "selection.py",
        "**_kept_in_float32(model), ",
        "",
        f"{ARCHITECTURES}::test_what_an_architecture_keeps_in_float32_is_left",
    ),
    Fault(
        "layers-read-by-their-parent-are-quantized",
        "selection.py",
        "**_read_by_parents(model), ",
        "",
        f"{SELECTION}::test_layers_that_an_encoder_reads_past_are_left_and_cannot_be_named",
    ),
    Fault(
        "adapters-are-quantized",
        "selection.py",
        "**_parts_of_adapters(model), ",
        "",
        f"{ARCHITECTURES}::test_adapters_are_left_to_be_trained",
    ),
    Fault(
        "include-beats-exclude",
        "selection.py",
        "    if _matches(excluded, aliases):\n",
        "    if included is None and _matches(excluded, aliases):\n",
        f"{SELECTION}::test_exclude_wins_over_include",
    ),
    Fault(
        "nothing-chosen-is-no-error",
        "selection.py",
        "    if not chosen:\n",
        "    if not chosen and not left:\n",
        f"{SELECTION}::test_any_name_of_a_shared_layer_selects_it_once",
    ),
    Fault(
        "tied-layer-named-is-left-in-silence",
        "selection.py",
        "    if named and name in fixed:\n",
        "    if named and name in fixed and name in heads:\n",
        f"{SELECTION}::test_naming_a_tied_layer_is_refused",
    ),
    Fault(
        "shared-layer-is-replaced-once",
        "convert.py",
        "parent._modules[child_name] = replacements[id(child)]",
        "parent._modules[child_name] = replacements.pop(id(child))",
        f"{CONVERT}::test_a_layer_under_two_names_is_quantized_once_and_stays_one",
    ),
    Fault(
        "half-the-model-stays-converted-after-an-error",
        "convert.py",
        "        replacements[id(layer)] = replacement\n",
        "        _swap(model, {id(layer): replacement})\n",
        f"{CONVERT_REFUSALS}::test_a_refusal_leaves_the_model_as_it_was",
    ),
    Fault(
        "hooks-are-lost",
        "convert.py",
        "vars(new)[attribute] = vars(old)[attribute]",
        "vars(new)[attribute]",
        f"{CONVERT}::test_forward_hooks_move_both_ways_and_their_handles_still_remove_them",
    ),
    Fault(
        "hooks-are-copied-instead-of-moved",
        "convert.py",
        "vars(new)[attribute] = vars(old)[attribute]",
        "value = vars(old)[attribute]\n"
        "        vars(new)[attribute] = value.copy() if isinstance(value, dict) else value",
        f"{CONVERT}::test_forward_hooks_move_both_ways_and_their_handles_still_remove_them",
    ),
    Fault(
        "quantized-twice",
        "convert.py",
        "    _refuse_quantized(model)\n    replace_layers",
        "    replace_layers",
        f"{CONVERT_REFUSALS}::test_quantizing_twice_is_refused_and_changes_nothing",
    ),
    Fault(
        "offloaded-layer-is-replaced",
        "convert.py",
        "    _refuse_replaced_forward(name, layer)\n",
        "",
        f"{CONVERT_REFUSALS}::test_a_refusal_leaves_the_model_as_it_was",
    ),
    Fault(
        "error-without-the-layer-s-name",
        "convert.py",
        'raise QuantError(f"{name}: {error}") from error',
        "raise",
        f"{CONVERT_REFUSALS}::test_a_refusal_leaves_the_model_as_it_was",
    ),
    Fault(
        "bytes-before-are-elements",
        "convert.py",
        'layer.get_parameter("weight").nbytes',
        'layer.get_parameter("weight").numel()',
        f"{CONVERT}::test_the_report_counts_layers_and_bytes",
    ),
    Fault(
        "report-stays-after-dequantizing",
        "convert.py",
        "    _swap(model, replacements)\n    vars(model).pop(_REPORT_ATTRIBUTE, None)\n",
        "    _swap(model, replacements)\n",
        f"{CONVERT}::test_a_model_without_conversion_has_no_report",
    ),
    Fault(
        "observers-are-told-before-the-layers-are-in-place",
        "convert.py",
        "    replace_layers(model, assign(model, scheme, include, exclude))\n    _tell(model)\n",
        "    _tell(model)\n    replace_layers(model, assign(model, scheme, include, exclude))\n",
        f"{CONVERT}::test_observers_are_told_with_the_new_layers_in_place",
    ),
    Fault(
        "last-layer-is-not-replaced",
        "convert.py",
        "for name, scheme in assignment.schemes.items():",
        "for name, scheme in list(assignment.schemes.items())[:-1]:",
        f"{CONVERT}::test_the_chosen_layers_are_replaced_in_place_and_nothing_else_is_touched",
    ),
    Fault(
        "every-layer-is-found-by-a-walk-over-the-model",
        "convert.py",
        "layer = model.get_submodule(name)",
        "layer = dict(model.named_modules())[name]",
        "tests/faults/test_growth.py::test_f4_calls_grow_no_faster_than_the_model",
    ),
)
