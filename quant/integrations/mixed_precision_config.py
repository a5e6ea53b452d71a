"""The `quantization_config` of transformers for mixed precision, given a plan or read from config.json.

    {"quant_method": "quant-mixed", "format_version": 1, "groups": [
        {"scheme": "nf4", "block_size": 64, "double_quant": false, "quantized_modules": ["model.layers.0....", ...]},
        {"scheme": "w8a16", "quantized_modules": [...]}]}

One group for each scheme with its options, in the order in which the model has them first. A plan is spent when the
layers have been chosen, as `include` and `exclude` of one scheme are: what is saved are the quantized layers. A model
whose layers all have one scheme is saved under that scheme's own method, however it came to be.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quant.assignment import Assignment, assign
from quant.errors import QuantError
from quant.integrations.loading import named_layers
from quant.integrations.quantization_config import CONFIGS, FORMAT_VERSION, OurConfig, QuantConfig
from quant.mixed_precision import MixedPrecision, scheme_from_dict, scheme_to_dict
from quant.schemes import METHOD_PREFIX, Scheme

MODULES = "quantized_modules"


class MixedPrecisionConfig(OurConfig):
    """`MixedPrecisionConfig("plan.json")`: a plan for `from_pretrained`.

    Args:
        plan: a `MixedPrecision`, its content, or the path of its file.
        groups: the schemes and names of the quantized layers, instead of a plan; saved models have them.
        format_version: of the stored tensors.

    Raises:
        QuantError: a plan or groups that are not what they should be, both or neither, a newer format.
    """

    def __init__(
        self,
        plan: MixedPrecision | Mapping[str, Any] | str | Path | None = None,
        *,
        groups: list[dict[str, Any]] | None = None,
        format_version: int = FORMAT_VERSION,
        quant_method: str | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(format_version, quant_method)
        if unknown:
            raise QuantError(f"{type(self).__name__}: unknown option {', '.join(map(repr, unknown))}, it takes plan")
        if (plan is None) == (groups is None):
            raise QuantError(f"{type(self).__name__} takes a plan, or the groups of a saved model: pass one")
        if isinstance(plan, str | Path):
            plan = MixedPrecision.read(plan)
        self.plan = MixedPrecision.from_dict(plan) if isinstance(plan, Mapping) else plan
        self._schemes = None if groups is None else _read_groups(groups)

    @classmethod
    def of_layers(cls, schemes: Mapping[str, Scheme]) -> "MixedPrecisionConfig":
        """The configuration of a model with these quantized layers."""
        return cls(groups=_groups(schemes))

    @classmethod
    def method(cls) -> str:
        return f"{METHOD_PREFIX}mixed"

    @property
    def schemes(self) -> dict[str, Scheme] | None:
        return self._schemes

    def choose(self, model: Any) -> Assignment:
        if self._schemes is not None:
            return named_layers(model, self._schemes)
        assert self.plan is not None
        return assign(model, self.plan)

    def to_dict(self) -> dict[str, Any]:
        """What config.json holds; the constructor takes it back."""
        content: dict[str, Any] = {"quant_method": self.quant_method, "format_version": self.format_version}
        if self.plan is not None:
            return {**content, "plan": self.plan.to_dict()}
        return {**content, "groups": _groups(self._schemes or {})}


REGISTERED: tuple[type[OurConfig], ...] = (*CONFIGS, MixedPrecisionConfig)
"""All configurations of this library, each with a method of its own."""


def config_of(schemes: Mapping[str, Scheme]) -> OurConfig:
    """The configuration of a model with these quantized layers, name -> scheme, at least one."""
    found = set(schemes.values())
    return QuantConfig.of(found.pop(), schemes) if len(found) == 1 else MixedPrecisionConfig.of_layers(schemes)


def read_config(content: Any) -> OurConfig | None:
    """What the `quantization_config` of a config.json says, None where there is none or it is another library's.

    Raises:
        QuantError: it is ours, but of a newer version or damaged.
    """
    method = content.get("quant_method") if isinstance(content, dict) else None
    found = next((config for config in REGISTERED if config.method() == method), None)
    return None if found is None else found(**content)


def _groups(schemes: Mapping[str, Scheme]) -> list[dict[str, Any]]:
    names: dict[Scheme, list[str]] = {}
    for name, scheme in schemes.items():
        names.setdefault(scheme, []).append(name)
    return [{**scheme_to_dict(scheme), MODULES: modules} for scheme, modules in names.items()]


def _read_groups(groups: Any) -> dict[str, Scheme]:
    schemes: dict[str, Scheme] = {}
    for group in groups if isinstance(groups, list) else [groups]:
        names = group.get(MODULES) if isinstance(group, dict) else None
        if not isinstance(names, list):
            raise QuantError(f"a group of the quantization_config has no {MODULES}: save the model again")
        scheme = scheme_from_dict({key: value for key, value in group.items() if key != MODULES}, "a group")
        for name in names:
            if name in schemes:
                raise QuantError(f"{name} is in two groups of the quantization_config: save the model again")
            schemes[name] = scheme
    return schemes
