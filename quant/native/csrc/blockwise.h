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

/* The absmax of `count` blocks from `block` on. Their codes are asked for meanwhile, into the second cache: memory would
 * rest while 16 rows of absmax are looked up. */
static inline void absmax_of_run(const struct linear *p, int64_t block, int64_t count, float *restrict out)
{
    const float *restrict level8 = p->level8, *restrict scales = p->absmax_scales;
    const uint8_t *restrict codes = p->absmax;
    float offset = p->absmax_offset;
    for (int64_t end = block + count; block < end;) {
        int64_t stop = (block | 255) + 1 < end ? (block | 255) + 1 : end;
        float scale = scales[block >> 8];
        for (; block < stop; block++) {
            __builtin_prefetch(p->packed + block * (p->block_size / 2), 0, 2);
            float product = level8[codes[block]] * scale;
            *out++ = product + offset;
        }
    }
}

#endif
