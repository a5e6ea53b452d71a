"""The `quantization_config` of transformers for each scheme: what `from_pretrained` is given and config.json keeps.

    {"quant_method": "quant-nf4", "format_version": 1, "block_size": 64, "double_quant": false,
     "quantized_modules": ["model.layers.0.self_attn.qkv_proj", ...]}

A saved model lists its quantized layers by name, so that it is rebuilt as it was, whatever chose them: patterns, code,
or another version's defaults. `include` and `exclude` mean the same as for `quant.quantize` and are spent when the
layers have been chosen. `"scale": "mse"` is there where scales were searched, and else no scale, as before there was
one: loading needs it for nothing. The methods' names are ours alone ("w8a16" is taken by compressed-tensors for another
format). Models of mixed precision have one of their own, in `mixed_precision_config`.

`format_version` counts changes of what is stored. A newer one is refused by name instead of being misread, and so is
every field that this version does not know.
"""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, ClassVar

from transformers.utils.quantization_config import QuantizationConfigMixin

from quant.assignment import Assignment, assign
from quant.errors import QuantError
from quant.integrations.loading import named_layers
from quant.schemes import FP4, INT4, METHOD_PREFIX, NF4, W8A16, Scheme

FORMAT_VERSION = 1


class OurConfig(QuantizationConfigMixin):  # type: ignore[misc]
    """What all configurations of this library have: a method, the version of the format, and the layers.

    Raises:
        QuantError: a newer format, or another method.
    """

    def __init__(self, format_version: int, quant_method: str | None) -> None:
        name = type(self).__name__
        if type(format_version) is not int or not 1 <= format_version <= FORMAT_VERSION:
            raise QuantError(
                f"{name}: format_version {format_version!r}, this version of quant reads 1 to {FORMAT_VERSION}: "
                "install the version that wrote the checkpoint, or a newer one"
            )
        self.quant_method = self.method()
        if quant_method not in (None, self.quant_method):
            raise QuantError(f"{name}: its quant_method is {self.quant_method!r}, not {quant_method!r}")
        self.format_version = format_version

    @classmethod
    @abstractmethod
    def method(cls) -> str:
        """The `quant_method` in config.json."""

    @property
    @abstractmethod
    def schemes(self) -> dict[str, Scheme] | None:
        """Name -> scheme of the quantized layers, None where they are still to be chosen."""

    @abstractmethod
    def choose(self, model: Any) -> Assignment:
        """The layers of the float skeleton `model` that are quantized, or are to be.

        Raises:
            QuantError: it has no such layers.
        """

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"


class QuantConfig(OurConfig):
    """What the configurations of one scheme share; users make one of its subclasses.

    Args:
        include: globs of layers to quantize, see `quant.quantize`.
        exclude: globs of layers to leave.
        quantized_modules: the names of the quantized layers, instead of patterns; saved models have them.
        format_version: of the stored tensors.
        options: those of the scheme.

    Raises:
        QuantError: an option that does not exist or has a wrong value, a newer format, patterns beside names.
    """

    scheme_type: ClassVar[type[Scheme]]

    def __init__(
        self,
        *,
        include: Iterable[str] | str | None = None,
        exclude: Iterable[str] | str | None = None,
        quantized_modules: Iterable[str] | None = None,
        format_version: int = FORMAT_VERSION,
        quant_method: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(format_version, quant_method)
        name = type(self).__name__
        known = [field.name for field in fields(self.scheme_type)]
        unknown = sorted(set(options) - set(known))
        if unknown:
            accepted = ", ".join([*known, "include", "exclude"])
            raise QuantError(f"{name}: unknown option {', '.join(map(repr, unknown))}, it takes {accepted}")
        if quantized_modules is not None and (include is not None or exclude is not None):
            raise QuantError(f"{name}: quantized_modules names the layers, include and exclude choose them: pass one")
        self.scheme = self.scheme_type(**options)
        self.include, self.exclude = _list(include), _list(exclude)
        self.quantized_modules = _list(quantized_modules)

    @classmethod
    def method(cls) -> str:
        return f"{METHOD_PREFIX}{cls.scheme_type.name}"

    @classmethod
    def of(cls, scheme: Scheme, quantized_modules: Iterable[str] | None = None, **choice: Any) -> "QuantConfig":
        """The configuration of a model whose `quantized_modules` (names) are quantized under `scheme`; or which of them
        are to be, by `include` and `exclude`.
        """
        (found,) = (config for config in CONFIGS if config.scheme_type is type(scheme))
        return found(quantized_modules=quantized_modules, **choice, **scheme.options)

    @property
    def schemes(self) -> dict[str, Scheme] | None:
        return None if self.quantized_modules is None else dict.fromkeys(self.quantized_modules, self.scheme)

    def choose(self, model: Any) -> Assignment:
        if self.schemes is None:
            return assign(model, self.scheme, self.include, self.exclude)
        return named_layers(model, self.schemes)

    def to_dict(self) -> dict[str, Any]:
        """What config.json holds; the constructor takes it back."""
        chosen = {name: getattr(self, name) for name in ("include", "exclude", "quantized_modules")}
        return {
            "quant_method": self.quant_method,
            "format_version": self.format_version,
            **self.scheme.options,
            **{name: value for name, value in chosen.items() if value is not None},
        }


class W8A16Config(QuantConfig):
    """`W8A16Config(scale="absmax", include=None, exclude=None)`: `quant.W8A16` for `from_pretrained`."""

    scheme_type = W8A16


class NF4Config(QuantConfig):
    """`NF4Config(block_size=64, double_quant=False, scale="absmax", include=None, exclude=None)`: `quant.NF4` for
    `from_pretrained`.
    """

    scheme_type = NF4


class FP4Config(QuantConfig):
    """`quant.FP4` for `from_pretrained`, as `NF4Config`."""

    scheme_type = FP4


class INT4Config(QuantConfig):
    """`quant.INT4` for `from_pretrained`, as `NF4Config`."""

    scheme_type = INT4


CONFIGS = (W8A16Config, NF4Config, FP4Config, INT4Config)


def _list(names: Iterable[str] | str | None) -> list[str] | None:
    if names is None:
        return None
    return [names] if isinstance(names, str) else list(names)
