"""Two 4-bit codes in a byte: the even element in the high nibble, the odd one in the low nibble (bitsandbytes'
order).
"""

import torch
from torch import Tensor


def pack_nibbles(codes: Tensor, fill: int) -> Tensor:
    """uint8 [ceil(n/2)] from codes (uint8 [n], values 0..15); an odd tail is completed with the code `fill`."""
    if codes.numel() % 2:
        codes = torch.cat([codes, codes.new_full((1,), fill)])
    return (codes[0::2] << 4) | codes[1::2]
