"""Two codes per byte: the nibble order, every byte, odd lengths, against the oracle's unpacking."""

import pytest
import torch

from quant.numerics.packing import pack_nibbles
from tests import oracle
from tests.strategies import bits


def test_first_code_goes_to_the_high_nibble() -> None:
    assert pack_nibbles(torch.tensor([1, 2, 0xF, 0], dtype=torch.uint8), fill=0).tolist() == [0x12, 0xF0]


def test_every_pair_of_codes_makes_its_byte() -> None:
    codes = torch.tensor([nibble for byte in range(256) for nibble in divmod(byte, 16)], dtype=torch.uint8)
    packed = pack_nibbles(codes, fill=0)
    assert packed.tolist() == list(range(256))
    assert packed.dtype == torch.uint8
    assert oracle.unpack(packed.tolist(), 512) == codes.tolist()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 64, 65])
@pytest.mark.parametrize("fill", [0, 7, 15])
def test_odd_lengths_end_with_the_fill(count: int, fill: int) -> None:
    codes = [(5 * index + 3) % 16 for index in range(count)]
    packed = pack_nibbles(torch.tensor(codes, dtype=torch.uint8), fill)
    assert packed.tolist() == oracle.pack(codes, fill)
    assert oracle.unpack(packed.tolist(), count) == codes


def test_packing_leaves_its_input() -> None:
    codes = torch.arange(15, dtype=torch.uint8)
    before = bits(codes)
    pack_nibbles(codes, fill=9)
    assert bits(codes) == before


def test_strided_codes_pack_like_contiguous_ones() -> None:
    codes = torch.arange(32, dtype=torch.uint8).remainder(16)[::3]
    assert torch.equal(pack_nibbles(codes, 0), pack_nibbles(codes.contiguous(), 0))
