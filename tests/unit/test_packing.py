"""Two codes per byte: the nibble order, every byte, odd lengths."""

import pytest
import torch

from quant.numerics.packing import pack_nibbles, unpack_nibbles
from tests import oracle
from tests.strategies import bits


def test_first_code_goes_to_the_high_nibble() -> None:
    assert pack_nibbles(torch.tensor([1, 2, 0xF, 0], dtype=torch.uint8), fill=0).tolist() == [0x12, 0xF0]


def test_every_pair_of_codes_makes_its_byte_and_comes_back() -> None:
    codes = torch.tensor([nibble for byte in range(256) for nibble in divmod(byte, 16)], dtype=torch.uint8)
    packed = pack_nibbles(codes, fill=0)
    assert packed.tolist() == list(range(256))
    assert packed.dtype == torch.uint8
    assert torch.equal(unpack_nibbles(packed, 512), codes)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 64, 65])
@pytest.mark.parametrize("fill", [0, 7, 15])
def test_odd_lengths_end_with_the_fill_and_unpack_without_it(count: int, fill: int) -> None:
    codes = [(5 * index + 3) % 16 for index in range(count)]
    packed = pack_nibbles(torch.tensor(codes, dtype=torch.uint8), fill)
    assert packed.tolist() == oracle.pack(codes, fill)
    assert unpack_nibbles(packed, count).tolist() == codes == oracle.unpack(packed.tolist(), count)


def test_packing_leaves_its_input_and_unpacking_leaves_the_bytes() -> None:
    codes = torch.arange(15, dtype=torch.uint8)
    before = bits(codes)
    packed = pack_nibbles(codes, fill=9)
    after = bits(packed)
    unpack_nibbles(packed, 15)
    assert bits(codes) == before
    assert bits(packed) == after


def test_strided_codes_pack_like_contiguous_ones() -> None:
    codes = torch.arange(32, dtype=torch.uint8).remainder(16)[::3]
    assert torch.equal(pack_nibbles(codes, 0), pack_nibbles(codes.contiguous(), 0))
