"""Layers of several schemes in one model: the same bits by every road, on the disk and back, and what transformers,
the command line and PEFT make of it.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.quantizers.auto import AutoHfQuantizer, AutoQuantizationConfig

import quant
from quant import MixedPrecision, MixedPrecisionConfig, QuantError
from quant.checkpoint_conversion import convert_checkpoint
from quant.checkpoint_quantization import quantize_checkpoint
from quant.integrations.mixed_precision_config import config_of, read_config
from quant.integrations.quantizer import QuantizerForTransformers
from quant.integrations.transformers import load_model
from quant.schemes import FP4, INT4, NF4, W8A16, Scheme
from tests.checkpoints import contents, load, logits, quantized_names, save, state
from tests.models import tiny_phi3, tokens
from tests.unit.cli_runner import Run, check_refused
from tests.unit.folders import check_equal, interrupt, tensors_of
from tests.unit.folders import config_of as config_json

LAYER = "model.layers.0."
PLAN = MixedPrecision(
    {
        f"{LAYER}self_attn.o_proj": W8A16(),
        f"{LAYER}self_attn.qkv_proj": NF4(32, double_quant=True),
        f"{LAYER}mlp.gate_up_proj": FP4(128),
        f"{LAYER}mlp.down_proj": None,
        "lm_head": W8A16(),
    }
)
"""For the smaller models of `float_folders`, of one layer."""
QUANTIZED = {name: scheme for name, scheme in PLAN.layers.items() if scheme is not None}


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    path = tmp_path / "plan.json"
    path.write_text(PLAN.to_json(), encoding="utf-8")
    return path


@pytest.mark.parametrize(("name", "dtype"), [("phi3", torch.float32), ("phi3-shards", torch.bfloat16)])
def test_every_road_gives_the_same_bits(
    name: str, dtype: torch.dtype, float_folders: dict[str, Path], plan_file: Path, run: Run, tmp_path: Path
) -> None:
    folder = float_folders[name]
    in_memory = quant.quantize(load_model(folder, dtype), plan_file)
    on_load = load(folder, quantization_config=MixedPrecisionConfig(plan_file), dtype=dtype)
    assert state(on_load) == state(in_memory)
    saved = save(in_memory, tmp_path / "in-memory")
    assert contents(saved) == contents(save(on_load, tmp_path / "on-load"))

    dtype_name = str(dtype).removeprefix("torch.")
    outcome = run("quantize", folder, tmp_path / "on-disk", "--plan", plan_file, "--dtype", dtype_name)
    assert (outcome.code, outcome.err) == (0, "")
    check_equal(tensors_of(tmp_path / "on-disk"), tensors_of(saved))
    assert config_json(tmp_path / "on-disk")["quantization_config"] == config_json(saved)["quantization_config"]
    if name == "phi3":
        weights = "model.safetensors"
        assert contents(tmp_path / "on-disk")[weights] == contents(saved)[weights]
    for made in (saved, tmp_path / "on-disk"):
        loaded = load(made)
        assert state(loaded) == state(in_memory)
        assert logits(loaded, tokens()) == logits(in_memory, tokens())
    assert contents(save(loaded, tmp_path / "again"))["config.json"] == contents(saved)["config.json"]


def test_config_json_holds_this() -> None:
    assert config_of(QUANTIZED).to_dict() == {
        "quant_method": "quant-mixed",
        "format_version": 1,
        "groups": [
            {"scheme": "w8a16", "quantized_modules": [f"{LAYER}self_attn.o_proj", "lm_head"]},
            {
                "scheme": "nf4",
                "block_size": 32,
                "double_quant": True,
                "quantized_modules": [f"{LAYER}self_attn.qkv_proj"],
            },
            {
                "scheme": "fp4",
                "block_size": 128,
                "double_quant": False,
                "quantized_modules": [f"{LAYER}mlp.gate_up_proj"],
            },
        ],
    }


def test_what_is_written_is_read_back() -> None:
    for config in (config_of(QUANTIZED), MixedPrecisionConfig(PLAN)):
        written = json.loads(json.dumps(config.to_dict()))
        read = AutoQuantizationConfig.from_dict(written)
        assert type(read) is MixedPrecisionConfig
        assert (read.schemes, read.plan, read.to_dict()) == (config.schemes, config.plan, written)
        assert type(AutoHfQuantizer.from_config(written)) is QuantizerForTransformers


def test_layers_of_one_scheme_are_saved_under_its_own_method() -> None:
    plan = MixedPrecision({**dict.fromkeys(PLAN.layers, NF4()), "lm_head": None})
    model: Any = quant.quantize(tiny_phi3(num_hidden_layers=1), plan)
    expected: Any = quant.quantize(tiny_phi3(num_hidden_layers=1), NF4())
    assert model.config.quantization_config.to_dict() == expected.config.quantization_config.to_dict()


def test_layers_of_two_schemes_are_saved_as_what_they_are(tmp_path: Path) -> None:
    """Also where the second one was put there by hand."""
    model: Any = quant.quantize(tiny_phi3(), NF4(), include="*.down_proj")
    model.lm_head = quant.W8A16Linear.from_linear(model.lm_head)
    loaded = load(save(model, tmp_path))
    assert state(loaded) == state(model)
    assert loaded.lm_head.scheme == W8A16()
    assert quant.conversion_report(loaded).scheme is None


def test_dequantized_it_is_float_for_transformers(tmp_path: Path) -> None:
    model: Any = load(save(quant.quantize(tiny_phi3(num_hidden_layers=1), PLAN), tmp_path / "quantized"))
    quant.dequantize(model)
    again = load(save(model, tmp_path / "float"))
    assert quantized_names(again) == []
    assert state(again) == state(model)


GROUP = {"scheme": "w8a16", "quantized_modules": ["a"]}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "neither": ({}, "MixedPrecisionConfig takes a plan, or the groups of a saved model: pass one"),
    "both": ({"plan": PLAN, "groups": [GROUP]}, "pass one"),
    "an unknown option": ({"plan": PLAN, "include": "*"}, "unknown option 'include', it takes plan"),
    "a newer format": ({"groups": [GROUP], "format_version": 2}, "format_version 2, this version of quant reads 1"),
    "another method": ({"groups": [GROUP], "quant_method": "quant-nf4"}, "its quant_method is 'quant-mixed', not"),
    "no modules": ({"groups": [{"scheme": "w8a16"}]}, "a group of the quantization_config has no quantized_modules"),
    "groups that are none": ({"groups": "w8a16"}, "a group of the quantization_config has no quantized_modules"),
    "a layer in two groups": ({"groups": [GROUP, {**GROUP, "scheme": "nf4"}]}, "a is in two groups"),
    "an unknown scheme": ({"groups": [{**GROUP, "scheme": "nf5"}]}, "a group: .*'nf5'.* is no scheme"),
    "an unknown field": ({"groups": [{**GROUP, "bits": 8}]}, "a group: w8a16 has the unknown field 'bits'"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(QuantError, match=message):
        MixedPrecisionConfig(**options)


def test_a_plan_for_another_model_is_refused_on_load_and_on_disk(
    float_folders: dict[str, Path], tmp_path: Path
) -> None:
    plan = MixedPrecision({**PLAN.layers, "model.layers.1.mlp.down_proj": NF4()})
    message = r"no linear layer 'model\.layers\.1\.mlp\.down_proj' that the plan names, did you mean 'model\.layers\.0"
    with pytest.raises(QuantError, match=message):
        load(float_folders["phi3"], quantization_config=MixedPrecisionConfig(plan))
    with pytest.raises(QuantError, match=message):
        quantize_checkpoint(float_folders["phi3"], tmp_path / "out", plan)
    with pytest.raises(QuantError, match="include and exclude choose them: pass one"):
        quantize_checkpoint(float_folders["phi3"], tmp_path / "out", PLAN, include=["*"])
    assert not (tmp_path / "out").exists()


def test_what_a_configuration_does_not_fit_is_refused(tmp_path: Path) -> None:
    """As of one scheme: codes read as another scheme's would be other weights."""
    saved = save(quant.quantize(tiny_phi3(num_hidden_layers=1), PLAN), tmp_path / "saved")
    schemes: dict[str, Scheme] = {**QUANTIZED, f"{LAYER}mlp.gate_up_proj": INT4(128)}
    config = config_json(saved)
    config["quantization_config"] = config_of(schemes).to_dict()
    (saved / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(QuantError, match=r"gate_up_proj: its tensors are of format .*INT4"):
        load(saved)


def test_the_command_line_tells_inspects_and_verifies(
    run: Run, float_folders: dict[str, Path], plan_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    told = run("quantize", float_folders["phi3"], out, "--plan", plan_file).out
    assert f"{out}: mixed precision, 4 of 5 linear layers quantized (2 W8A16(), 1 NF4(" in told
    assert f"  left {LAYER}mlp.down_proj: float in the plan" in told
    assert run("inspect", out, "--verify").code == 0
    text = run("inspect", out).out
    assert "quant-mixed, format_version 1; 4 layers quantized" in text
    assert "2 layers: w8a16\n" in text
    assert "1 layers: nf4, block_size 32, double_quant True\n" in text
    stored = json.loads(run("inspect", out, "--json").out)["stored"]
    assert stored["layers_by_scheme"]["fp4, block_size 128, double_quant False"] == 1
    check_refused(
        run("convert", out, tmp_path / "theirs", "--to", "bitsandbytes"),
        r"layers of several schemes \(2 W8A16\(\), .*a checkpoint of bitsandbytes has one for all",
    )


def test_an_interrupted_run_is_not_taken_up_with_another_plan(
    run: Run, float_folders: dict[str, Path], plan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same layers, and as many of each scheme."""
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfile", interrupt)
        run("quantize", float_folders["phi3"], out, "--plan", plan_file)
    exchanged = {**PLAN.layers, "lm_head": FP4(128), f"{LAYER}mlp.gate_up_proj": W8A16()}
    plan_file.write_text(MixedPrecision(exchanged).to_json(), encoding="utf-8")
    message = "left from an interrupted run, but of other schemes.*--restart"
    check_refused(run("quantize", float_folders["phi3"], out, "--plan", plan_file), message)


def test_a_plan_of_one_scheme_converts_to_bitsandbytes(float_folders: dict[str, Path], tmp_path: Path) -> None:
    plan = MixedPrecision({**dict.fromkeys(PLAN.layers, NF4()), "lm_head": None})
    quantize_checkpoint(float_folders["phi3"], tmp_path / "ours", plan)
    assert len(convert_checkpoint(tmp_path / "ours", tmp_path / "theirs", "bitsandbytes").layers) == 4


def test_adapters_train_on_it() -> None:
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415

    from quant.integrations.peft import for_quantized_layers  # noqa: PLC0415

    model = quant.quantize(tiny_phi3(num_hidden_layers=1), PLAN)
    config = for_quantized_layers(LoraConfig(target_modules=["qkv_proj", "o_proj"], r=2))
    adapted: Any = get_peft_model(model, config)
    adapted(tokens(), labels=tokens()).loss.backward()
    trained = [name for name, parameter in adapted.named_parameters() if parameter.grad is not None]
    assert trained
    assert all("lora_" in name for name in trained)


def test_configurations_of_others_are_theirs() -> None:
    assert read_config({"quant_method": "bitsandbytes"}) is None
    assert read_config(None) is None
