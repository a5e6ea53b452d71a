/* Rows of a blockwise weight, one element at a time: what the vector kernels leave over. */
#ifndef QUANT_BLOCKWISE_H
#define QUANT_BLOCKWISE_H

#include "kernels.h"

/* The sum of output (m, n) in float64 lanes, for the case that the float32 lanes overflowed. */
double blockwise_overflowed(const struct linear *p, const struct activations *a, int64_t m, int64_t n);

/* Outputs [row0, row1) where groups may straddle blocks (k no multiple of 16); q in natural order. */
void blockwise_ragged(const struct linear *p, const struct activations *a, int64_t row0, int64_t row1);

static inline float absmax_of(const struct linear *p, int64_t block)
{
    if (!p->absmax_scales)
        return ((const float *)p->absmax)[block];
    float product = p->level8[((const uint8_t *)p->absmax)[block]] * p->absmax_scales[block >> 8];
    return product + p->absmax_offset;
}

#endif
