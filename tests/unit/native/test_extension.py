"""The C functions by themselves: whatever numbers they are given, they compute or raise. They cannot know whether an
address is right, only whether there is one.
"""

import ctypes
from typing import Any

import pytest

from quant.native.variants import kernels

N, K = 4, 64
BUFFER = ctypes.create_string_buffer(1 << 16)
ADDRESS = ctypes.addressof(BUFFER)
"""Zeros, enough for every operand at once."""

Arguments = dict[str, Any]

LINEAR: Arguments = {
    "variant": 0,
    "threads": 1,
    "few": 1,
    "m": 2,
    "n": N,
    "k": K,
    "x": ADDRESS,
    "x_dtype": 0,
    "bias": ADDRESS,
    "bias_dtype": 0,
    "y": ADDRESS,
}
ARGUMENTS: dict[str, Arguments] = {
    "linear_int8": {**LINEAR, "codes": ADDRESS, "scales": ADDRESS},
    "linear_blockwise": {
        **LINEAR,
        "packed": ADDRESS,
        "absmax": ADDRESS,
        "absmax_scales": ADDRESS,
        "level8": ADDRESS,
        "absmax_offset": ADDRESS,
        "levels": ADDRESS,
        "divisor": 4075,
        "block_size": 64,
    },
    "quantize_int8": {
        "variant": 0,
        "threads": 1,
        "n": N,
        "k": K,
        "w": ADDRESS,
        "dtype": 0,
        "codes": ADDRESS,
        "scales": ADDRESS,
    },
    "quantize_blocks": {
        "variant": 0,
        "threads": 1,
        "count": N * K,
        "w": ADDRESS,
        "dtype": 0,
        "block_size": 64,
        "midpoints": ADDRESS,
        "order": ADDRESS,
        "packed": ADDRESS,
        "absmax": ADDRESS,
    },
}
"""Arguments of each function, in order, with which it runs."""
SIZES = ("m", "n", "k", "count")
WRONG: dict[str, tuple[Any, ...]] = {
    "variant": (-1, len(kernels.supported()), 2**31, 2**32, 2**63, None, 0.0, "0"),
    "threads": (-1, 0, 4097, 2**32 + 1, 2**63, None),
    "few": (-1, 2, 2**32, None),
    **dict.fromkeys(SIZES, (-1, -(2**63), 2**45, 2**62, 2**63 - 1, 2**64, None, 1.0, "1")),
    **dict.fromkeys(("x_dtype", "bias_dtype", "dtype"), (-1, 3, 2**32, 2**63, None)),
    "block_size": (-64, 0, 1, 16, 33, 48, 65, 2**45, 2**62, 2**63, None),
    "divisor": (None, "1"),
    **dict.fromkeys(("x", "y", "scales", "codes", "packed", "absmax", "levels"), (None, 0, 1.0, "1", 2**64)),
    **dict.fromkeys(("absmax_scales", "level8", "absmax_offset"), (None, 0, 1.0, "1", 2**64)),
    "bias": (1.0, "1", 2**64),
    **dict.fromkeys(("w", "midpoints", "order"), (None, 0, 1.0, "1", 2**64)),
}


def call(function: str, arguments: Arguments) -> Any:
    return getattr(kernels, function)(*arguments.values())


@pytest.mark.parametrize("function", ARGUMENTS)
def test_the_arguments_themselves_are_right(function: str) -> None:
    assert not call(function, ARGUMENTS[function])


@pytest.mark.parametrize(
    ("function", "argument", "value"),
    [
        pytest.param(function, argument, value, id=f"{function}-{argument}-{value!r}")
        for function, arguments in ARGUMENTS.items()
        for argument in arguments
        for value in WRONG[argument]
    ],
)
def test_a_wrong_argument_is_refused(function: str, argument: str, value: Any) -> None:
    with pytest.raises((ValueError, TypeError, OverflowError)):
        call(function, {**ARGUMENTS[function], argument: value})


@pytest.mark.parametrize("function", ARGUMENTS)
def test_the_number_of_arguments_is_checked(function: str) -> None:
    right = tuple(ARGUMENTS[function].values())
    for arguments in (*(right[:count] for count in range(len(right))), (*right, 0)):
        with pytest.raises(TypeError, match=r"too (few|many) arguments"):
            getattr(kernels, function)(*arguments)


@pytest.mark.parametrize("function", ARGUMENTS)
def test_sizes_that_only_together_are_too_large_are_refused(function: str) -> None:
    sizes = [name for name in ARGUMENTS[function] if name in ("m", "n", "k")]
    for first in sizes:
        for second in sizes[sizes.index(first) + 1 :]:
            with pytest.raises(ValueError, match="sizes out of range"):
                call(function, {**ARGUMENTS[function], first: 2**23, second: 2**23})


def test_memory_that_there_is_not_is_an_error() -> None:
    """Room for 4096 threads times 2^40 activations."""
    with pytest.raises(MemoryError):
        call("linear_int8", {**ARGUMENTS["linear_int8"], "m": 1, "n": 4, "k": 2**40, "threads": 4096})
    with pytest.raises(MemoryError):
        call("quantize_blocks", {**ARGUMENTS["quantize_blocks"], "block_size": 2**44, "threads": 4096})


@pytest.mark.parametrize("size", ["m", "n", "k"])
@pytest.mark.parametrize("function", ["linear_int8", "linear_blockwise"])
def test_operands_without_elements_need_no_address(function: str, size: str) -> None:
    empty = {"m": ("x", "y"), "n": ("codes", "scales", "packed", "absmax", "y", "bias"), "k": ("x", "codes", "packed")}
    arguments = {**ARGUMENTS[function], size: 0}
    for name in empty[size]:
        if name in arguments:
            arguments[name] = None
    assert call(function, arguments) is None


def test_no_bias_is_no_error() -> None:
    for function in ("linear_int8", "linear_blockwise"):
        assert call(function, {**ARGUMENTS[function], "bias": None}) is None
