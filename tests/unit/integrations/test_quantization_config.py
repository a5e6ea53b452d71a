"""The configurations by themselves: what they take, refuse, and write into config.json."""

import copy
import json
from typing import Any

import pytest
from transformers.quantizers.auto import AutoHfQuantizer, AutoQuantizationConfig

import quant
from quant.errors import QuantError
from quant.integrations.quantization_config import CONFIGS, FORMAT_VERSION, QuantConfig
from quant.integrations.quantizer import QuantizerForTransformers
from quant.schemes import FP4, INT4, NF4, SCHEMES, W8A16, Scheme
from tests.strategies import ALL_SCHEMES, scheme_id

NAMES = ["model.layers.0.mlp.down_proj", "lm_head"]


@pytest.mark.parametrize("scheme", ALL_SCHEMES, ids=scheme_id)
def test_what_is_written_is_read_back(scheme: Scheme) -> None:
    config = QuantConfig.of(scheme, NAMES)
    written = json.loads(json.dumps(config.to_dict()))
    read = AutoQuantizationConfig.from_dict(written)
    assert type(read) is type(config)
    assert (read.scheme, read.quantized_modules) == (scheme, NAMES)
    assert read.to_dict() == written


def test_config_json_holds_this() -> None:
    assert QuantConfig.of(NF4(128, True), NAMES).to_dict() == {
        "quant_method": "quant-nf4",
        "format_version": 1,
        "block_size": 128,
        "double_quant": True,
        "quantized_modules": NAMES,
    }
    assert quant.W8A16Config(exclude="*.down_proj").to_dict() == {
        "quant_method": "quant-w8a16",
        "format_version": 1,
        "exclude": ["*.down_proj"],
    }


def test_every_named_scheme_has_a_configuration() -> None:
    assert {config.scheme_type for config in CONFIGS} == {type(scheme) for scheme in SCHEMES.values()}
    public = (quant.W8A16Config, quant.NF4Config, quant.FP4Config, quant.INT4Config)
    assert [config.scheme_type for config in public] == [W8A16, NF4, FP4, INT4]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_transformers_finds_the_quantizer(config: type[QuantConfig]) -> None:
    assert type(AutoHfQuantizer.from_config(config().to_dict(), pre_quantized=True)) is QuantizerForTransformers


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (
            quant.W8A16Config,
            {"block_size": 64},
            "W8A16Config: unknown option 'block_size', it takes scale, include, exclude",
        ),
        (
            quant.NF4Config,
            {"blocksize": 64},
            "unknown option 'blocksize', it takes scale, block_size, double_quant, include",
        ),
        (quant.NF4Config, {"block_size": 65}, "block_size 65 is not allowed"),
        (quant.NF4Config, {"double_quant": 1}, "double_quant must be True or False"),
        (quant.NF4Config, {"format_version": FORMAT_VERSION + 1}, "format_version 2, this version of quant reads 1"),
        (quant.NF4Config, {"format_version": 0}, "format_version 0"),
        (quant.NF4Config, {"format_version": "1"}, "format_version '1'"),
        (quant.NF4Config, {"format_version": True}, "format_version True"),
        (quant.NF4Config, {"quant_method": "quant-fp4"}, "its quant_method is 'quant-nf4', not 'quant-fp4'"),
        (quant.NF4Config, {"quantized_modules": ["a"], "exclude": ["b"]}, "pass one"),
    ],
    ids=lambda value: ",".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_bad_options_are_refused(kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(QuantError, match=message):
        kind(**options)


def test_the_version_may_be_left_out() -> None:
    """As hand-written configurations do."""
    assert AutoQuantizationConfig.from_dict({"quant_method": "quant-nf4"}).format_version == FORMAT_VERSION


def test_a_quantizer_leaves_the_configuration_alone() -> None:
    config = quant.NF4Config()
    before = copy.deepcopy(vars(config))
    quantizer = QuantizerForTransformers(config, pre_quantized=False)
    assert quantizer.quantization_config is not config
    assert vars(config) == before


def test_it_is_shown_as_what_is_written() -> None:
    config = quant.NF4Config(exclude=["*.down_proj"])
    name, _, content = repr(config).partition(" ")
    assert name == "NF4Config"
    assert json.loads(content) == config.to_dict()
