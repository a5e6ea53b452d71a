/* One call: activations to fixed point, then the kernels over ranges of the weight, on the threads that torch uses. */
#include "driver.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "threads.h"

/* ---- layouts of q ---- */

enum layout { NATURAL, NIBBLES, TILES_INT8, TILES_LANES };

struct call {
    const struct kernels *kernels;
    struct linear linear;
    struct activations activations;
    enum layout layout;
    int ragged;
    char *scratch;
    size_t scratch_bytes; /* of one thread */
};

/* Each 128 elements as four times 32: elements 4 j + 1, 4 j, 4 j + 3, 4 j + 2. */
static void arrange_nibbles(const int16_t *natural, int64_t padded, int16_t *q)
{
    for (int64_t first = 0; first < padded; first += 128)
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 32; j++)
                q[first + 32 * i + j] = natural[first + 4 * j + (i ^ 1)];
}

/* Where a tile of `rows` rows keeps the pairs of its row `row`: pair s at at[2 * rows * s]. */
static int16_t *tile_at(const struct call *c, int64_t before, int64_t pairs, int64_t m, int64_t *rows)
{
    int64_t most = c->kernels->tile_rows, first = m / most * most, left = c->linear.m - first;
    *rows = left < most ? left : most;
    return c->activations.q + 2 * (before * c->linear.m + pairs * first + (m - first));
}

/* Pairs of elements 4 i and 4 i + 2, then 4 i + 1 and 4 i + 3, in parts of SPLIT elements. */
static void arrange_int8(const struct call *c, const int16_t *natural, int64_t m)
{
    int64_t padded = c->activations.padded;
    for (int64_t k = 0; k < padded; k += SPLIT) {
        int64_t pairs = (padded - k < SPLIT ? padded - k : SPLIT) / 2, rows;
        int16_t *at = tile_at(c, k / 2, pairs, m, &rows);
        for (int64_t s = 0; s < pairs; s++) {
            const int16_t *pair = natural + k + s / 2 * 4 + s % 2;
            at[2 * rows * s] = pair[0];
            at[2 * rows * s + 1] = pair[2];
        }
    }
}

/* By lanes: lane j holds groups j, j + 16, ..., each as eight pairs, of elements 1 and 5, 0 and 4, 3 and 7, 2 and 6, and
 * these plus 8: the order in which the panel has them. */
static void arrange_lanes(const struct call *c, const int16_t *natural, int64_t m)
{
    int64_t steps = c->activations.padded / STRIDE, rows;
    for (int64_t lane = 0; lane < LANES; lane++) {
        int16_t *at = tile_at(c, lane * steps * 8, steps * 8, m, &rows);
        for (int64_t step = 0; step < steps; step++) {
            const int16_t *group = natural + STRIDE * step + LANES * lane;
            for (int s = 0; s < 8; s++, at += 2 * rows) {
                const int16_t *pair = group + s / 4 * 8 + (s % 4 ^ 1);
                at[0] = pair[0];
                at[1] = pair[4];
            }
        }
    }
}

/* ---- y = x W^T ---- */

static void activate(void *context, int64_t first, int64_t last, int slot)
{
    struct call *c = context;
    struct activations *a = &c->activations;
    float *buffer = (float *)(void *)(c->scratch + c->scratch_bytes * (size_t)slot);
    int16_t *natural = (int16_t *)(void *)(buffer + c->linear.k);
    double divisor = c->linear.levels ? 32767.0 * c->linear.divisor : 32767.0;
    for (int64_t m = first; m < last; m++) {
        int16_t *row = c->layout == NATURAL ? a->q + m * a->padded : natural;
        float absmax = c->kernels->quantize_row(c->linear.x, c->linear.x_dtype, m, c->linear.k, buffer, row, a->padded);
        a->absmax[m] = absmax;
        a->unit[m] = (double)absmax / divisor;
        if (c->layout == NIBBLES)
            arrange_nibbles(natural, a->padded, a->q + m * a->padded);
        else if (c->layout == TILES_INT8)
            arrange_int8(c, natural, m);
        else if (c->layout == TILES_LANES)
            arrange_lanes(c, natural, m);
    }
}

static void few_rows(void *context, int64_t first, int64_t last, int slot)
{
    struct call *c = context;
    void *scratch = c->scratch + c->scratch_bytes * (size_t)slot;
    if (c->ragged)
        blockwise_ragged(&c->linear, &c->activations, first, last);
    else if (c->linear.levels)
        c->kernels->few_rows_blockwise(&c->linear, &c->activations, first, last, scratch);
    else
        c->kernels->few_rows_int8(&c->linear, &c->activations, first, last);
}

static void many_rows(void *context, int64_t first, int64_t last, int slot)
{
    struct call *c = context;
    void *scratch = c->scratch + c->scratch_bytes * (size_t)slot;
    for (int64_t panel = first; panel < last; panel++)
        if (c->linear.levels)
            c->kernels->panel_blockwise(&c->linear, &c->activations, panel, scratch);
        else
            c->kernels->panel_int8(&c->linear, &c->activations, panel, scratch);
}

static int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

/* Decide how, and size the memory: one allocation holds q, the units and every thread's scratch. */
static void *prepare(struct call *c, int threads)
{
    struct linear *p = &c->linear;
    int blockwise = p->levels != NULL;
    int64_t columns = c->kernels->panel_columns, padded = round_up(p->k, blockwise ? STRIDE : 64);
    c->ragged = blockwise && p->k % LANES != 0;
    int few = c->ragged || p->few;
    c->layout = !few ? (blockwise ? TILES_LANES : TILES_INT8) : blockwise && !c->ragged ? NIBBLES : NATURAL;
    size_t scratch = (size_t)p->k * 4 + (size_t)padded * 2, kernel;
    if (few)
        kernel = (size_t)(LANES * LANES * (padded / STRIDE)) * 4;
    else
        kernel = (size_t)(padded * columns) * 2 + (size_t)(blockwise ? padded / LANES * columns * 4 : 0) +
                 (size_t)(p->m * columns) * (blockwise ? 4 : 8);
    c->scratch_bytes = (size_t)round_up((int64_t)(scratch > kernel ? scratch : kernel), 64);
    size_t units = (size_t)round_up(p->m * 12, 64), q = (size_t)round_up(p->m * padded * 2, 64);
    char *memory = aligned_alloc(64, units + q + c->scratch_bytes * (size_t)threads);
    if (memory) {
        c->activations.unit = (double *)(void *)memory;
        c->activations.absmax = (float *)(void *)(memory + p->m * 8);
        c->activations.q = (int16_t *)(void *)(memory + units);
        c->activations.padded = padded;
        c->scratch = memory + units + q;
    }
    return memory;
}

static int linear_rows(const struct kernels *kernels, const struct linear *linear, int threads)
{
    struct call c = {.kernels = kernels, .linear = *linear};
    int64_t weights = linear->n * linear->k;
    if (weights * linear->m < SERIAL)
        threads = 1;
    void *memory = prepare(&c, threads);
    if (!memory)
        return -1;
    run_ranges(activate, &c, linear->m, kernels->tile_rows, linear->m * linear->k < SERIAL / 8 ? 1 : threads);
    if (c.layout == NATURAL || c.layout == NIBBLES) {
        /* Ranges of about 128 KB of int8 weights, at least four for each thread. */
        int64_t rows = (1 << 17) / (linear->k + 1), fair = linear->n / (4 * threads);
        run_ranges(few_rows, &c, linear->n, round_up((rows < fair ? rows : fair) + 1, LANES), threads);
    } else {
        int64_t columns = kernels->panel_columns;
        run_ranges(many_rows, &c, (linear->n + columns - 1) / columns, 1, threads);
    }
    free(memory);
    return 0;
}

int run_linear(const struct kernels *kernels, const struct linear *linear, int threads)
{
    struct linear part = *linear;
    int64_t x_row = linear->k * (linear->x_dtype == F32 ? 4 : 2), y_row = linear->n * (linear->x_dtype == F32 ? 4 : 2);
    for (int64_t m = 0; m < linear->m; m += MOST_ROWS) {
        part.m = linear->m - m < MOST_ROWS ? linear->m - m : MOST_ROWS;
        part.x = (const char *)linear->x + m * x_row;
        part.y = (char *)linear->y + m * y_row;
        if (linear_rows(kernels, &part, threads))
            return -1;
    }
    return 0;
}

/* ---- quantizing ---- */

struct quantizing {
    const struct kernels *kernels;
    const struct weight *weight;
    float *buffers;
    int64_t buffer; /* floats of one thread */
    atomic_llong bad;
};

static void quantize_range(void *context, int64_t first, int64_t last, int slot)
{
    struct quantizing *q = context;
    const struct weight *w = q->weight;
    float *buffer = q->buffers + q->buffer * slot;
    int64_t bad = w->codes ? q->kernels->quantize_int8(w->w, w->dtype, w->k, first, last, w->codes, w->scales, buffer)
                           : q->kernels->quantize_blocks(w->w, w->dtype, w->n * w->k, w->block_size, first, last,
                                                         w->midpoints, w->order, w->packed, w->scales, buffer);
    atomic_fetch_add(&q->bad, bad);
}

int64_t run_quantize(const struct kernels *kernels, const struct weight *w, int threads)
{
    struct quantizing q = {.kernels = kernels, .weight = w, .buffer = w->codes ? w->k : 2 * w->block_size + 1};
    int64_t items = w->codes ? w->n : (w->n * w->k + w->block_size - 1) / w->block_size;
    int64_t size = w->codes ? w->k : w->block_size;
    q.buffers = malloc((size_t)(q.buffer * threads + 1) * sizeof *q.buffers);
    if (!q.buffers)
        return -1;
    run_ranges(quantize_range, &q, items, (1 << 17) / (size + 1) + 1, w->n * w->k < SERIAL / 8 ? 1 : threads);
    free(q.buffers);
    return q.bad;
}
