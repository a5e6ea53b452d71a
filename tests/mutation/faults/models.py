"""Mistakes in choosing and replacing layers: `quant/selection.py`, `quant/convert.py`."""

from tests.mutation.fault import Fault

SELECTION = "tests/unit/test_selection.py"
CONVERT = "tests/unit/test_convert.py"
REFUSALS = "tests/unit/test_convert_refusals.py"
TRANSFORMERS = "tests/unit/test_convert_transformers.py"
ARCHITECTURES = "tests/unit/integrations/test_architectures.py"

FAULTS = (
    Fault(
        "tied-weight-not-detected",
        "selection.py",
        "            if others:\n",
        "            if len(others) > 1:\n",
        (SELECTION,),
    ),
    Fault(
        "tie-of-a-skeleton-not-detected",
        "selection.py",
        "if weight.is_meta and name in declared:",
        "if weight.is_meta and not declared:",
        (SELECTION, TRANSFORMERS),
    ),
    Fault(
        "exclude-is-not-anchored",
        "selection.py",
        "return any(fnmatch.fnmatchcase(name, pattern) for name in aliases for pattern in patterns)",
        'return any(fnmatch.fnmatchcase(name, f"{pattern}*") for name in aliases for pattern in patterns)',
        (SELECTION,),
    ),
    Fault(
        "only-the-first-name-is-matched",
        "selection.py",
        "for name in aliases for pattern in patterns)",
        "for name in aliases[:1] for pattern in patterns)",
        (SELECTION,),
    ),
    Fault(
        "misspelt-pattern-is-accepted",
        "selection.py",
        "if not any(fnmatch.fnmatchcase(name, pattern) for name in names):",
        "if not names:",
        (SELECTION,),
    ),
    Fault(
        "head-is-quantized-by-default",
        "selection.py",
        'return None if named else "output head"',
        "return None",
        (SELECTION,),
    ),
    Fault(
        "wildcard-takes-the-head",
        "selection.py",
        "named = included is not None and not included.isdisjoint(aliases)",
        "named = included is not None and _matches(included, aliases)",
        (SELECTION,),
    ),
    Fault(
        "head-is-told-by-its-ending",
        "selection.py",
        'not set(HEAD_NAMES).isdisjoint(name.split("."))',
        "name.endswith(HEAD_NAMES)",
        (SELECTION, ARCHITECTURES),
    ),
    Fault(
        "declared-head-is-not-asked-for",
        "selection.py",
        "if key in returned or any(",
        "if any(",
        (SELECTION, TRANSFORMERS, ARCHITECTURES),
    ),
    Fault(
        "float32-layers-are-quantized", "selection.py", "**_kept_in_float32(model), ", "", (SELECTION, ARCHITECTURES)
    ),
    Fault("layers-read-by-their-parent-are-quantized", "selection.py", "**_read_by_parents(model), ", "", (SELECTION,)),
    Fault("adapters-are-quantized", "selection.py", "**_parts_of_adapters(model), ", "", (ARCHITECTURES,)),
    Fault(
        "include-beats-exclude",
        "selection.py",
        "    if _matches(excluded, aliases):\n",
        "    if included is None and _matches(excluded, aliases):\n",
        (SELECTION,),
    ),
    Fault(
        "nothing-chosen-is-no-error",
        "selection.py",
        "    if not chosen:\n",
        "    if not chosen and not left:\n",
        (SELECTION,),
    ),
    Fault(
        "tied-layer-named-is-quantized",
        "selection.py",
        "    if named and name in fixed:\n",
        "    if named and name in heads:\n",
        (SELECTION,),
    ),
    Fault(
        "shared-layer-is-replaced-once",
        "convert.py",
        "parent._modules[child_name] = replacements[id(child)]",
        "parent._modules[child_name] = dict(replacements)[id(child)]\n                break",
        (CONVERT,),
    ),
    Fault(
        "half-the-model-stays-converted-after-an-error",
        "convert.py",
        "        replacements[id(layer)] = replacement\n",
        "        _swap(model, {id(layer): replacement})\n",
        (CONVERT, REFUSALS),
    ),
    Fault(
        "hooks-are-lost",
        "convert.py",
        "vars(new)[attribute] = vars(old)[attribute]",
        "vars(new)[attribute]",
        (CONVERT,),
    ),
    Fault(
        "hooks-are-copied-instead-of-moved",
        "convert.py",
        "vars(new)[attribute] = vars(old)[attribute]",
        "vars(new)[attribute] = type(vars(old)[attribute])(vars(old)[attribute] or {})",
        (CONVERT,),
    ),
    Fault(
        "quantized-twice",
        "convert.py",
        "    _refuse_quantized(model)\n    replace_layers",
        "    replace_layers",
        (REFUSALS,),
    ),
    Fault("offloaded-layer-is-replaced", "convert.py", "    _refuse_replaced_forward(name, layer)\n", "", (REFUSALS,)),
    Fault(
        "error-without-the-layer-s-name",
        "convert.py",
        'raise QuantError(f"{name}: {error}") from error',
        "raise",
        (REFUSALS,),
    ),
    Fault(
        "bytes-before-are-elements",
        "convert.py",
        'layer.get_parameter("weight").nbytes',
        'layer.get_parameter("weight").numel()',
        (CONVERT,),
    ),
    Fault(
        "report-stays-after-dequantizing",
        "convert.py",
        "    vars(model).pop(_REPORT_ATTRIBUTE, None)\n",
        "",
        (CONVERT,),
    ),
    Fault(
        "observers-are-told-before-the-layers-are-in-place",
        "convert.py",
        "    replace_layers(model, scheme, select(model, include, exclude))\n    _tell(model)\n",
        "    _tell(model)\n    replace_layers(model, scheme, select(model, include, exclude))\n",
        (CONVERT, "tests/unit/integrations/test_marking.py"),
    ),
    Fault(
        "last-layer-is-not-replaced",
        "convert.py",
        "    for name in selection.chosen:\n",
        "    for name in selection.chosen[:-1]:\n",
        (CONVERT,),
    ),
)
