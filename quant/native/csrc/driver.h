/* What module.c calls. */
#ifndef QUANT_DRIVER_H
#define QUANT_DRIVER_H

#include "blockwise.h"
#include "kernels.h"

enum {
    SERIAL = 1 << 19,  /* multiplications below which waking other threads costs more than they save */
    MOST_ROWS = 1024, /* rows of x at a time, which bounds the memory of a call */
};

/* A weight to quantize: int8 where codes is given, blockwise otherwise. */
struct weight {
    const void *w; /* [n, k] */
    int dtype;
    int64_t n, k;
    int8_t *codes;  /* [n, k] */
    float *scales;  /* [n], or absmax [blocks] */
    int64_t block_size;
    const float *midpoints; /* [15], ascending */
    const uint8_t *order;   /* [16]: codes of the levels in ascending order */
    uint8_t *packed;        /* [ceil(n k / 2)] */
};

/* 0, or -1 if there is no memory. */
int run_linear(const struct kernels *kernels, const struct linear *linear, int threads);

/* The number of values that are not finite, or -1 if there is no memory. */
int64_t run_quantize(const struct kernels *kernels, const struct weight *weight, int threads);

#endif
