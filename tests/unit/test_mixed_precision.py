"""A plan as a value and as a file: what is written is read back, and nothing in a file is passed over."""

import copy
import dataclasses
import json
import math
import pickle
from pathlib import Path
from typing import Any

import pytest

from quant import MixedPrecision, QuantError
from quant.mixed_precision import SCHEMA, SCHEME_TYPES, Provenance, scheme_from_dict, scheme_to_dict
from quant.schemes import NF4, SCHEMES, W8A16, Scheme
from tests.strategies import ALL_SCHEMES, scheme_id

PROVENANCE = Provenance("./my-model", 0.01, {"dtype": "float32"}, 1.004, 1.005, (1.003, 1.007), 4096, 1088)
PLAN = MixedPrecision({"a.down_proj": W8A16(), "a.up_proj": NF4(128, True), "lm_head": None}, PROVENANCE)


def written(folder: Path, content: Any) -> Path:
    path = folder / "plan.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    read = MixedPrecision.read(written(tmp_path, PLAN.to_json()))
    assert (dict(read.layers), read.provenance) == (dict(PLAN.layers), PROVENANCE)
    assert list(read.layers) == list(PLAN.layers)


def test_a_provenance_with_what_it_was_held_to_is_read_back_and_one_of_before_too(tmp_path: Path) -> None:
    found = dataclasses.replace(PROVENANCE, held_to={"dtype": "float32"}, tried=5, looks=1)
    content = dataclasses.replace(PLAN, provenance=found).to_dict()
    assert MixedPrecision.read(written(tmp_path, content)).provenance == found
    for name in ("held_to", "tried", "looks"):
        del content["provenance"][name]
    assert MixedPrecision.read(written(tmp_path, content)).provenance == PROVENANCE


def test_a_plan_cannot_be_changed_and_is_copied_and_pickled() -> None:
    layers: dict[str, Scheme | None] = {"a": NF4()}
    plan = MixedPrecision(layers, PROVENANCE)
    layers["a"] = None
    assert plan.layers == {"a": NF4()}
    with pytest.raises(TypeError):
        plan.layers["a"] = None  # type: ignore[index]
    for copied in (copy.copy(plan), copy.deepcopy(plan), pickle.loads(pickle.dumps(plan))):
        assert (copied, copied.provenance) == (plan, PROVENANCE)
        assert copied != MixedPrecision({"a": None})


def test_a_file_holds_this() -> None:
    content = json.loads(PLAN.to_json())
    assert content["schema"] == 1
    assert content["layers"] == {
        "a.down_proj": {"scheme": "w8a16"},
        "a.up_proj": {"scheme": "nf4", "block_size": 128, "double_quant": True},
        "lm_head": None,
    }
    assert content["provenance"]["measured_ratio_ci"] == [1.003, 1.007]


@pytest.mark.parametrize("scheme", ALL_SCHEMES, ids=scheme_id)
def test_every_option_of_every_scheme_is_kept(scheme: Scheme) -> None:
    assert scheme_from_dict(json.loads(json.dumps(scheme_to_dict(scheme))), "x") == scheme


def test_an_option_that_came_later_is_in_a_file_where_it_is_not_its_default() -> None:
    """So that files from before it are written as they were."""
    for scheme, content in (
        (W8A16(), {"scheme": "w8a16"}),
        (W8A16(scale="mse"), {"scheme": "w8a16", "scale": "mse"}),
    ):
        assert scheme_to_dict(scheme) == content
        assert scheme_from_dict(content, "x") == scheme


def test_every_scheme_has_its_name_in_files() -> None:
    assert {type(scheme) for scheme in SCHEMES.values()} == set(SCHEME_TYPES.values())


def test_options_that_a_hand_leaves_out_have_their_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, {"schema": 1, "layers": {"a": {"scheme": "nf4"}}})
    assert MixedPrecision.read(path) == MixedPrecision({"a": NF4()})


def layer(entry: Any) -> dict[str, Any]:
    return {"schema": 1, "layers": {"a.b": entry}}


def provenance(**changes: Any) -> dict[str, Any]:
    return {**PLAN.to_dict(), "provenance": {**PLAN.to_dict()["provenance"], **changes}}


REFUSED: dict[str, tuple[Any, str]] = {
    "no JSON": ("{", r"is no JSON file of a plan \(.*\): write it again"),
    "a list": ([1], r"schema None, this version of quant reads 1 to 1: .*\{\"schema\": 1, \"layers\""),
    "no schema": ({"layers": {}}, "schema None"),
    "a newer schema": ({"schema": SCHEMA + 1, "layers": {}}, f"schema {SCHEMA + 1}, this version .*: update quant"),
    "a schema that is no number": ({"schema": True, "layers": {}}, "schema True"),
    "no layers": ({"schema": 1}, "a plan lacks the field 'layers', it takes layers, provenance, schema: add it"),
    "an unknown field": ({**layer(None), "layer": 1}, "a plan has the unknown field 'layer', .*: remove it, or update"),
    "layers in a list": ({"schema": 1, "layers": ["a"]}, '"layers" is no object of names and schemes: write'),
    "an unknown scheme": (layer({"scheme": "nf5"}), r"a\.b: .*'nf5'.* is no scheme: write .*of w8a16, nf4, fp4, int4"),
    "a scheme by its name alone": (layer("nf4"), r"a\.b: 'nf4' is no scheme"),
    "a scheme of the command line": (layer({"scheme": "nf4-dq"}), r"a\.b: .*'nf4-dq'.* is no scheme"),
    "a scheme that is no string": (layer({"scheme": ["nf4"]}), r"a\.b: .* is no scheme"),
    "an unknown option": (
        layer({"scheme": "nf4", "blocksize": 32}),
        r"a\.b: nf4 has the unknown field 'blocksize', it takes block_size, double_quant, .*scheme",
    ),
    "another scheme's option": (layer({"scheme": "w8a16", "block_size": 64}), r"a\.b: w8a16 has the unknown field"),
    "a value that is not allowed": (layer({"scheme": "nf4", "block_size": 48}), r"a\.b: NF4: block_size 48 is not all"),
    "a layer twice": ('{"schema": 1, "layers": {"a": null, "a": null}}', "'a' occurs twice"),
    "an unknown provenance": (provenance(author="me"), "its provenance has the unknown field 'author'"),
    "no numbers": (provenance(budget="1%"), "its provenance has something else than numbers: leave it out"),
    "no finite numbers": (provenance(predicted_ratio=math.inf), "its provenance has something else than numbers"),
    "half an interval": (provenance(measured_ratio_ci=[1.0]), "its provenance has something else than numbers"),
    "tried in words": (provenance(tried="often"), "its provenance has something else than numbers"),
    "held to nothing known": (provenance(held_to="a text"), "its provenance has no model or no fingerprint"),
    "no model": (provenance(model=None), "its provenance has no model or no fingerprint"),
    "a provenance in words": ({**layer(None), "provenance": "mine"}, "\"provenance\" is 'mine': leave it out"),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_understood_is_refused_with_the_file_s_name(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(QuantError, match=rf"plan\.json:? .*{message}"):
        MixedPrecision.read(written(tmp_path, content))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QuantError, match=r"gone\.json cannot be read: No such file"):
        MixedPrecision.read(tmp_path / "gone.json")


@pytest.mark.parametrize("layers", [{"a": NF4}, {"a": "nf4"}, {0: NF4()}], ids=str)
def test_a_plan_is_of_names_and_schemes(layers: Any) -> None:
    with pytest.raises(QuantError, match="is not the name of a layer and its scheme or None"):
        MixedPrecision(layers)
