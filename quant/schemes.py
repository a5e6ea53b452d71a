"""Quantization schemes as frozen data: what a format is, how many bytes it takes, how wrong it can be. No tensors.

A scheme is a value: two `NF4(block_size=64)` are equal, can be keys and can be printed. Its analytic facts (bits per
weight, bytes, worst-case error) stand beside its parameters, so that tests can hold the measured ones to them and
`quant inspect` can size a model that nobody has loaded.

| scheme | weights | scales | activations |
|---|---|---|---|
| `W8A16` | int8, -127..127, symmetric | one float32 per output row | 16 bit or the model's dtype |
| `NF4`, `FP4`, `INT4` | 4-bit index into 16 levels | one float32 absmax per block | the model's dtype |

Blocks are runs of `block_size` consecutive elements of the weight flattened row by row, as in bitsandbytes: they run
over row ends where a row is not a multiple of the block size, and the last block may be short. With `double_quant`
the absmax values are themselves stored as 8-bit codes, one float32 scale per 256 of them and one float32 offset for
the tensor.

`scale` is how the scale of a row and the absmax of a block are chosen, and changes nothing of how they are stored:
"absmax" is from the largest magnitude, "mse" the one of least squared error among those that
`quant.numerics.scale_search` tries.

Refused: other block sizes than bitsandbytes', so that every file stays readable by it.
"""

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, ClassVar, Literal, get_args

from quant.codebooks import largest_half_gap
from quant.errors import QuantError

BLOCK_SIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
DOUBLE_QUANT_BLOCK = 256
Scale = Literal["absmax", "mse"]
SCALES: tuple[Scale, ...] = get_args(Scale)
METHOD_PREFIX = "quant-"
"""With a scheme's name behind it: the `quant_method` in the config.json of models that this library quantized."""
FORMAT_BYTES = 4
"""Bytes of the tag (uint8 [4]) that a blockwise layer stores so that its tensors cannot be read as another scheme's."""


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


@dataclass(frozen=True, repr=False)
class Scheme(ABC):
    """What all schemes answer. Subclasses are frozen dataclasses; their fields are the user's options.

    Args:
        scale: "absmax" or "mse", see the module's docstring; by keyword only.

    Raises:
        QuantError: another scale.
    """

    _: KW_ONLY
    scale: Scale = "absmax"

    name: ClassVar[str]
    bits: ClassVar[int]
    factors: ClassVar[tuple[float, ...]]
    """What "mse" tries as the stored scale: these multiples of that of "absmax", and others between the first and last
    of them. They ascend, and 1 is among them.
    """

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            allowed = " or ".join(f'"{name}"' for name in SCALES)
            raise QuantError(f"{type(self).__name__}: scale must be {allowed}, got {self.scale!r}")

    @property
    def searched_factors(self) -> tuple[float, ...]:
        """`factors`, or none where the scale is not searched."""
        return self.factors if self.scale == "mse" else ()

    @property
    def options(self) -> dict[str, Any]:
        """The fields by name, as files have them: a scale that is not searched is left out, as before there was one."""
        last = {} if self.scale == "absmax" else {"scale": self.scale}
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "scale"} | last

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.options.items())})"

    @abstractmethod
    def storage_bytes(self, out_features: int, in_features: int) -> int:
        """Bytes of everything stored for one [out_features, in_features] weight, without the bias."""

    @property
    @abstractmethod
    def worst_case_error(self) -> float:
        """Largest |w - dequantized| relative to the largest magnitude of its row (W8A16) or block, in exact arithmetic.

        A searched scale is f times that of "absmax", f between the first and the last of `factors`. Weights
        within its range are off by up to f times the error that "absmax" has there, those beyond become its largest
        level and are off by up to 1 - f. So the larger of the two, each for its worst f.
        """

    def _worst_case_of(self, error: float) -> float:
        """`worst_case_error`, where that of "absmax" is `error`."""
        if self.scale == "absmax":
            return error
        return max(self.factors[-1] * error, 1 - self.factors[0])

    def bits_per_weight(self, out_features: int, in_features: int) -> float:
        """Stored bits divided by weights, scales included."""
        return 8 * self.storage_bytes(out_features, in_features) / (out_features * in_features)


@dataclass(frozen=True, repr=False)
class W8A16(Scheme):
    """Symmetric int8, codes -127..127, one float32 scale per output row, absmax/127 unless searched; nearest code, ties
    to even. See `Scheme` for the option.
    """

    name: ClassVar[str] = "w8a16"
    bits: ClassVar[int] = 8
    factors: ClassVar[tuple[float, ...]] = tuple(step / 200 for step in range(196, 207))

    def storage_bytes(self, out_features: int, in_features: int) -> int:
        return out_features * in_features + 4 * out_features

    @property
    def worst_case_error(self) -> float:
        return self._worst_case_of(1 / 254)


@dataclass(frozen=True, repr=False)
class Blockwise(Scheme):
    """4-bit codes into a 16-level codebook, scaled by the absmax of each block.

    Args:
        block_size: weights per absmax, one of 32, 64, ..., 4096.
        double_quant: store the absmax values in 8 bits (QLoRA, section 3), saving about 3/block_size bytes per weight.
        scale: see `Scheme`.

    Raises:
        QuantError: a block size that is not in the list, a double_quant that is not a bool, another scale.
    """

    block_size: int = 64
    double_quant: bool = False

    bits: ClassVar[int] = 4
    format_id: ClassVar[int]
    factors: ClassVar[tuple[float, ...]] = tuple(step / 20 for step in range(10, 24))

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.block_size) is not int or self.block_size not in BLOCK_SIZES:
            allowed = ", ".join(map(str, BLOCK_SIZES))
            raise QuantError(
                f"{type(self).__name__}: block_size {self.block_size!r} is not allowed, use one of {allowed}"
            )
        if not isinstance(self.double_quant, bool):
            raise QuantError(f"{type(self).__name__}: double_quant must be True or False, got {self.double_quant!r}")

    @property
    def codebook(self) -> str:
        """Key into `quant.codebooks.LEVELS`."""
        return self.name

    @property
    def format_tag(self) -> tuple[int, int, int, int]:
        """What `weight_format` holds: layout version, codebook, log2 of the block size, double quantization."""
        return (1, self.format_id, self.block_size.bit_length() - 1, int(self.double_quant))

    def storage_bytes(self, out_features: int, in_features: int) -> int:
        weights = out_features * in_features
        blocks = _ceil_div(weights, self.block_size)
        groups = _ceil_div(blocks, DOUBLE_QUANT_BLOCK)
        absmax = blocks + 4 * groups + 4 if self.double_quant else 4 * blocks
        return _ceil_div(weights, 2) + absmax + FORMAT_BYTES

    @property
    def worst_case_error(self) -> float:
        return self._worst_case_of(largest_half_gap(self.codebook))


@dataclass(frozen=True, repr=False)
class NF4(Blockwise):
    """4-bit NormalFloat (QLoRA): levels at quantiles of the normal distribution. See `Blockwise` for the options."""

    name: ClassVar[str] = "nf4"
    format_id: ClassVar[int] = 0


@dataclass(frozen=True, repr=False)
class FP4(Blockwise):
    """4-bit float (1 sign, 2 exponent, 1 mantissa bit) as in bitsandbytes. See `Blockwise` for the options."""

    name: ClassVar[str] = "fp4"
    format_id: ClassVar[int] = 1


@dataclass(frozen=True, repr=False)
class INT4(Blockwise):
    """Linear 4 bit: levels k/7, k = -7..7, the evenly spaced counterpart of NF4. See `Blockwise` for the options."""

    name: ClassVar[str] = "int4"
    format_id: ClassVar[int] = 2


SCHEMES: dict[str, Scheme] = {
    "w8a16": W8A16(),
    "nf4": NF4(),
    "nf4-dq": NF4(double_quant=True),
    "fp4": FP4(),
    "int4": INT4(),
}
"""The schemes that have a name on the command line."""
