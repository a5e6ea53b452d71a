/* What the files of the native library share: operands, the table of functions that each instruction set provides, and
 * threads. The arithmetic is specified in quant/kernels/cpu.py; whatever is done here, it must give those bits. */
#ifndef QUANT_KERNELS_H
#define QUANT_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "nibbles and pairs of codes are read as little-endian words; without this extension torch takes over"
#endif

enum dtype { F32 = 0, BF16 = 1, F16 = 2 };

enum {
    LANES = 16,   /* outputs side by side in a tile; float accumulators of a blockwise row; elements of a group */
    CHUNK = 64,   /* weights of the commonest block */
    STRIDE = 256, /* weights that give each lane one group */
    FLUSH = 8192, /* int8 weights whose sum fits 32 bits in each of 16 lanes: 512 * 128 * 32767 < 2^31 */
    SPLIT = 512,  /* int8 weights whose sum fits 32 bits: 512 * 128 * 32767 < 2^31 */
};

/* x [m, k] times a quantized weight [n, k]: y [m, n]. */
struct linear {
    int64_t m, n, k;
    int few; /* stream the weight row by row for a few rows of x, instead of in panels for many */
    const void *x;
    const void *bias; /* [n] or NULL */
    void *y;          /* x's dtype */
    int x_dtype, bias_dtype;
    /* int8 */
    const int8_t *codes;       /* [n, k] */
    const float *scales;       /* [n] */
    /* blockwise */
    const uint8_t *packed;     /* [ceil(n k / 2)] */
    const void *absmax;        /* float [blocks], or uint8 [blocks] where absmax_scales is given */
    const float *absmax_scales; /* [ceil(blocks / 256)] or NULL */
    const float *level8;       /* [256]: levels of the codes in absmax */
    float absmax_offset;
    const int16_t *levels;     /* [16] */
    double divisor;            /* what the levels were multiplied by */
    int64_t block_size;
};

/* x as fixed point: q = x * 32767 / absmax(row). */
struct activations {
    int16_t *q;    /* rows or tiles, laid out as the kernel wants them */
    double *unit;  /* [m]: absmax / 32767 (over the divisor for blockwise formats); NaN for a row with NaN or Inf */
    float *absmax;  /* [m] */
    int64_t padded; /* elements of a row of q, a multiple of STRIDE (blockwise) or CHUNK */
};

struct kernels {
    const char *name;
    /* row of x [m, k] -> q [padded], returns absmax (NaN if not finite); buffer: float [k] */
    float (*quantize_row)(const void *x, int x_dtype, int64_t row, int64_t k, float *buffer, int16_t *q, int64_t padded);
    /* outputs [row0, row1) for all rows of x; scratch: float [LANES, LANES * (padded / STRIDE)] */
    void (*few_rows_int8)(const struct linear *, const struct activations *, int64_t row0, int64_t row1);
    void (*few_rows_blockwise)(const struct linear *, const struct activations *, int64_t row0, int64_t row1, void *scratch);
    /* outputs of one panel of columns; scratch: int16 [padded, columns], float [padded / LANES, columns] (blockwise),
     * int64 or float [m, columns] */
    int64_t panel_columns, tile_rows;
    void (*panel_int8)(const struct linear *, const struct activations *, int64_t panel, void *scratch);
    void (*panel_blockwise)(const struct linear *, const struct activations *, int64_t panel, void *scratch);
    /* rows or blocks of a weight; return the number of values that are not finite; buffer: float [k] or [2 * block_size] */
    int64_t (*quantize_int8)(const void *w, int dtype, int64_t k, int64_t row0, int64_t row1, int8_t *codes, float *scales, float *buffer);
    int64_t (*quantize_blocks)(const void *w, int dtype, int64_t count, int64_t block_size, int64_t block0, int64_t block1,
                               const float *midpoints, const uint8_t *order, uint8_t *packed, float *absmax, float *buffer);
};

extern const struct kernels kernels_portable;
#if defined(__x86_64__)
extern const struct kernels kernels_avx2;
extern const struct kernels kernels_avx512;
#elif defined(__aarch64__)
extern const struct kernels kernels_neon;
#endif

#endif
