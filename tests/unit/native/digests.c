/* One line per variant of this architecture: its name and a digest of what its kernels make of several hundred operands,
 * the same operands everywhere. Compiled for two architectures, the program shows whether they give the same bits. Half of
 * the calls are made while the CPU flushes subnormals, which must not matter. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

static const struct kernels *variants[] = {
#if defined(__x86_64__)
    &kernels_avx512, &kernels_avx2,
#elif defined(__aarch64__)
    &kernels_neon,
#endif
    &kernels_portable,
};

static uint64_t state, digest;

static uint64_t next(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return state >> 33;
}

static int64_t below(int64_t limit) { return (int64_t)(next() % (uint64_t)limit); }

static void *filled(size_t bytes)
{
    uint8_t *memory = malloc(bytes + 64);
    for (size_t i = 0; i < bytes; i++)
        memory[i] = (uint8_t)next();
    return memory;
}

/* Floats of all sizes between 2^-20 and 2^20, now and then any bits at all, NaN and subnormals among them. */
static void *floats(int64_t count, int dtype, int tame)
{
    uint32_t *memory = malloc((size_t)count * 4 + 64);
    uint16_t *narrow = (uint16_t *)memory;
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits = (uint32_t)(next() << 31 | (107 + next() % 40) << 23 | next() % (1 << 23));
        if (!tame && next() % 997 == 0)
            bits = (uint32_t)(next() << 16 ^ next());
        if (dtype == F32)
            memory[i] = bits;
        else
            narrow[i] = (uint16_t)(dtype == BF16 ? bits >> 16 : next());
    }
    return memory;
}

static void digest_of(const void *memory, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        digest = (digest ^ ((const uint8_t *)memory)[i]) * 1099511628211u;
}

static void flush_subnormals(int on)
{
#if defined(__x86_64__)
    _mm_setcsr(on ? 0x9fc0 : 0x1f80);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)(on ? 1 << 24 : 0)));
#endif
}

static void multiply(const struct kernels *kernels, int few, int blockwise)
{
    struct linear p = {.m = below(40), .n = 1 + below(50), .k = 1 + below(700), .few = few};
    p.k = next() % 2 ? p.k / 64 * 64 + 64 : p.k;
    p.block_size = blockwise ? 32 << below(4) : CHUNK;
    p.x_dtype = (int)below(3);
    p.bias_dtype = (int)below(3);
    int64_t weights = p.n * p.k, blocks = (weights + p.block_size - 1) / p.block_size;
    size_t bytes = (size_t)(p.m * p.n) * (p.x_dtype == F32 ? 4 : 2);
    int16_t levels[16];
    void *x = floats(p.m * p.k, p.x_dtype, 0), *bias = floats(p.n, p.bias_dtype, 0), *codes = filled((size_t)weights);
    void *scales = floats(blocks + p.n, F32, 1), *level8 = floats(256, F32, 1), *y = malloc(bytes + 64);
    uint8_t *absmax = filled((size_t)blocks);
    for (int i = 0; i < 16; i++)
        levels[i] = (int16_t)(below(8191) - 4095);
    p.x = x;
    p.bias = next() % 2 ? bias : NULL;
    p.y = y;
    p.codes = codes;
    p.scales = scales;
    if (blockwise) {
        p.packed = codes;
        p.levels = levels;
        p.divisor = 4075;
        p.absmax = scales;
        if (next() % 2) {
            p.absmax = absmax;
            p.absmax_scales = scales;
            p.level8 = level8;
            p.absmax_offset = 0.75f;
        }
    }
    flush_subnormals((int)below(2));
    if (run_linear(kernels, &p, 1))
        abort();
    flush_subnormals(0);
    digest_of(y, bytes);
    void *all[] = {x, bias, codes, scales, level8, y, absmax};
    for (int i = 0; i < 7; i++)
        free(all[i]);
}

static void quantize(const struct kernels *kernels, int blockwise)
{
    struct weight w = {.n = 1 + below(20), .k = 1 + below(300), .dtype = (int)below(3), .block_size = 64};
    float midpoints[15];
    uint8_t order[16];
    for (int i = 0; i < 16; i++)
        order[i] = (uint8_t)(15 - i);
    for (int i = 0; i < 15; i++)
        midpoints[i] = (float)(i - 7) / 8;
    size_t count = (size_t)(w.n * w.k);
    void *weight = floats(w.n * w.k, w.dtype, 1);
    int8_t *codes = calloc(count + 64, 1);
    uint8_t *packed = calloc(count + 64, 1);
    float *scales = calloc(count + 64, 4);
    w.w = weight;
    w.scales = scales;
    w.codes = blockwise ? NULL : codes;
    w.packed = packed;
    w.midpoints = midpoints;
    w.order = order;
    flush_subnormals((int)below(2));
    int64_t bad = run_quantize(kernels, &w, 1);
    flush_subnormals(0);
    digest_of(&bad, sizeof bad);
    if (!bad) {
        digest_of(codes, count);
        digest_of(packed, count);
        digest_of(scales, count * 4);
    }
    free(weight);
    free(codes);
    free(packed);
    free(scales);
}

int main(int count, char **names)
{
    for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
        int wanted = count == 1;
        for (int i = 1; i < count; i++)
            wanted |= !strcmp(names[i], variants[v]->name);
        if (!wanted)
            continue;
        state = 1;
        digest = 14695981039346656037u;
        for (int call = 0; call < 400; call++) {
            multiply(variants[v], call % 2, call / 2 % 2);
            quantize(variants[v], call % 2);
        }
        printf("%s %016llx\n", variants[v]->name, (unsigned long long)digest);
    }
    return 0;
}
