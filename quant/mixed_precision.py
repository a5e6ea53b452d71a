"""Mixed precision: which scheme each linear layer of a model gets, as a value and as a JSON file. No tensors.

    {"schema": 1,
     "layers": {"model.layers.0.mlp.down_proj": {"scheme": "w8a16"},
                "model.layers.0.mlp.gate_up_proj": {"scheme": "nf4", "block_size": 64, "double_quant": false},
                "lm_head": null},
     "provenance": {"model": "./my-model", "budget": 0.01, ...}}

Names are whole, without patterns, and null stays float. A file may be written by hand, where options that are left out
have their defaults, or by `quant sensitivity --budget`, which adds where it comes from (`Provenance`). How a plan is
held to a model is in `quant.assignment`.

Read strictly, because what is passed over in silence would quantize something else than was meant: a field, an option,
a scheme or a schema that this version does not know is an error that names the file, the layer and the remedy.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from quant.errors import QuantError
from quant.schemes import FP4, INT4, NF4, W8A16, Scheme

SCHEMA = 1
SCHEME_TYPES: dict[str, type[Scheme]] = {kind.name: kind for kind in (W8A16, NF4, FP4, INT4)}
"""Name of each scheme in files -> the scheme, whose fields are its options there."""


@dataclass(frozen=True)
class Provenance:
    """How a plan was found.

    Attributes:
        model: as it was asked for; budget: what the perplexity might grow by, 0.01 is 1 %.
        fingerprint: what it was chosen on and with, the fields of `quant.evaluate.fingerprint.Fingerprint`.
        predicted_ratio: the quantized model's perplexity over the float model's, from single layers.
        measured_ratio, measured_ratio_ci: the same of the whole plan, measured, with its 95 % interval.
        bytes_before, bytes_after: of the weights of the layers that were measured.
        held_to: what it was measured on and with, windows that had no part in the choice; None in files of before,
            where it is the text that the plan was chosen on.
        tried: plans that were measured to choose it; looks: plans that were held to these other windows, this one the
            last. Of several looks the interval is a little on the good side. None in files of before.
    """

    model: str
    budget: float
    fingerprint: Mapping[str, Any]
    predicted_ratio: float
    measured_ratio: float
    measured_ratio_ci: tuple[float, float]
    bytes_before: int
    bytes_after: int
    held_to: Mapping[str, Any] | None = None
    tried: int | None = None
    looks: int | None = None


@dataclass(frozen=True)
class MixedPrecision:
    """The scheme of each linear layer of a model, None where it stays float.

    Args:
        layers: whole dotted name -> scheme, of every linear layer; copied, and read-only afterwards.
        provenance: how it was found, if it was.

    Raises:
        QuantError: a name that is no string, or something else than a scheme or None.
    """

    layers: Mapping[str, Scheme | None]
    provenance: Provenance | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name, scheme in self.layers.items():
            if not isinstance(name, str) or not isinstance(scheme, Scheme | None):
                raise QuantError(f"{name!r}: {scheme!r} is not the name of a layer and its scheme or None")
        object.__setattr__(self, "layers", MappingProxyType(dict(self.layers)))

    def __reduce__(self) -> tuple[Any, ...]:
        # A view of a dict can be neither pickled nor copied deeply.
        return type(self), (dict(self.layers), self.provenance)

    @classmethod
    def read(cls, path: str | Path) -> "MixedPrecision":
        """The plan in the JSON file `path`.

        Raises:
            QuantError: it cannot be read or says something that this version does not know; the message names it.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_unique)
        except OSError as error:
            raise QuantError(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:  # QuantError of a name that occurs twice among them
            raise QuantError(f"{path} is no JSON file of a plan ({error}): write it again") from error
        try:
            return cls.from_dict(content)
        except QuantError as error:
            raise QuantError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, content: Any) -> "MixedPrecision":
        """The plan that `to_dict` gave, or a file holds.

        Raises:
            QuantError: another schema, an unknown or missing field, an unknown scheme or option.
        """
        schema = content.get("schema") if isinstance(content, dict) else None
        if type(schema) is not int or not 1 <= schema <= SCHEMA:
            raise QuantError(
                f"schema {schema!r}, this version of quant reads 1 to {SCHEMA}: update quant, or write "
                f'{{"schema": {SCHEMA}, "layers": {{...}}}}'
            )
        _check_fields("a plan", content, {"schema", "layers"}, {"provenance"})
        layers = content["layers"]
        if not isinstance(layers, dict):
            raise QuantError('"layers" is no object of names and schemes: write {"NAME": {"scheme": "nf4"}, ...}')
        provenance = content.get("provenance")
        return cls(
            {name: None if entry is None else scheme_from_dict(entry, name) for name, entry in layers.items()},
            None if provenance is None else _read_provenance(provenance),
        )

    def to_dict(self) -> dict[str, Any]:
        """What a file holds."""
        layers = {name: None if scheme is None else scheme_to_dict(scheme) for name, scheme in self.layers.items()}
        content: dict[str, Any] = {"schema": SCHEMA, "layers": layers}
        return content if self.provenance is None else {**content, "provenance": asdict(self.provenance)}

    def to_json(self) -> str:
        """The text of a file."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"


def scheme_to_dict(scheme: Scheme) -> dict[str, Any]:
    """`{"scheme": "nf4", "block_size": 64, ...}`: the scheme's name and its options."""
    return {"scheme": scheme.name, **scheme.options}


def scheme_from_dict(entry: Any, where: str) -> Scheme:
    """The scheme that `scheme_to_dict` gave; options that are left out have their defaults.

    Raises:
        QuantError: an unknown scheme or option, or a value that is not allowed; the message begins with `where`.
    """
    name = entry.get("scheme") if isinstance(entry, dict) else None
    kind = SCHEME_TYPES.get(name) if isinstance(name, str) else None
    if kind is None:
        known = ", ".join(SCHEME_TYPES)
        raise QuantError(f'{where}: {entry!r} is no scheme: write {{"scheme": NAME}} with one of {known}')
    options = {option.name for option in dataclasses.fields(kind)}
    _check_fields(f"{where}: {name}", entry, {"scheme"}, options)
    try:
        return kind(**{option: value for option, value in entry.items() if option != "scheme"})
    except QuantError as error:
        raise QuantError(f"{where}: {error}") from error


def _read_provenance(content: Any) -> Provenance:
    optional = {field.name for field in dataclasses.fields(Provenance) if field.default is None}
    fields = {field.name for field in dataclasses.fields(Provenance)} - optional
    if not isinstance(content, dict):
        raise QuantError(f'"provenance" is {content!r}: leave it out, or copy it from a file that quant wrote')
    _check_fields("its provenance", content, fields, optional)
    interval = content["measured_ratio_ci"]
    numbers = [content[name] for name in ("budget", "predicted_ratio", "measured_ratio", "bytes_before", "bytes_after")]
    numbers += [content[name] for name in ("tried", "looks") if content.get(name) is not None]
    if not isinstance(interval, list) or len(interval) != 2 or not all(map(_is_number, [*numbers, *interval])):
        raise QuantError("its provenance has something else than numbers: leave it out, or copy it as quant wrote it")
    fingerprints = [content["fingerprint"]]
    fingerprints += [content["held_to"]] if content.get("held_to") is not None else []
    if not isinstance(content["model"], str) or not all(isinstance(found, dict) for found in fingerprints):
        raise QuantError("its provenance has no model or no fingerprint: leave it out, or copy it as quant wrote it")
    return Provenance(**{**content, "measured_ratio_ci": (interval[0], interval[1])})


def _is_number(value: Any) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _check_fields(what: str, content: Mapping[str, Any], needed: set[str], optional: set[str]) -> None:
    known = ", ".join(sorted(needed | optional))
    if unknown := sorted(content.keys() - needed - optional):
        raise QuantError(f"{what} has the unknown field {unknown[0]!r}, it takes {known}: remove it, or update quant")
    if missing := sorted(needed - content.keys()):
        raise QuantError(f"{what} lacks the field {missing[0]!r}, it takes {known}: add it")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            raise QuantError(f"{name!r} occurs twice")
        content[name] = value
    return content
