/* Loading and storing float32, bfloat16 and float16, in exact operations that every compiler vectorizes alike. */
#ifndef QUANT_CONVERT_H
#define QUANT_CONVERT_H

#include <stdint.h>
#include <string.h>

#include "kernels.h"

#define INLINE static inline __attribute__((always_inline))

INLINE float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

INLINE uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return bits;
}

INLINE float float_of_half(uint16_t h)
{
    uint32_t magnitude = (uint32_t)(h & 0x7fff) << 13;
    uint32_t bits = bits_of(float_of(magnitude) * 0x1p112f); /* subnormals included */
    bits |= magnitude >= 0x0f800000 ? 0x7f800000 : 0;        /* Inf and NaN */
    return float_of(bits | (uint32_t)(h & 0x8000) << 16);
}

/* Half to even; NaN becomes the quiet NaN without a sign. */
INLINE uint16_t half_of_float(float f)
{
    uint32_t bits = bits_of(f), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    uint32_t normal = (magnitude + 0xc8000fff + (magnitude >> 13 & 1)) >> 13; /* exponent - 112 */
    uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - 0x3f000000;
    uint32_t half = magnitude < 0x38800000 ? subnormal : normal;
    half = magnitude >= 0x47800000 ? 0x7c00 : half;
    return (uint16_t)(magnitude > 0x7f800000 ? 0x7e00 : half | sign);
}

INLINE uint16_t bfloat_of_float(float f)
{
    uint32_t bits = bits_of(f);
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
}

INLINE float load_float(const void *x, int dtype, int64_t i)
{
    if (dtype == F32)
        return ((const float *)x)[i];
    uint16_t h = ((const uint16_t *)x)[i];
    return dtype == BF16 ? float_of((uint32_t)h << 16) : float_of_half(h);
}

/* x[first .. first + count) as float: x itself where it is float already, else converted into buffer. */
INLINE const float *load_floats(const void *x, int dtype, int64_t first, int64_t count, float *buffer)
{
    if (dtype == F32)
        return (const float *)x + first;
    const uint16_t *h = (const uint16_t *)x + first;
    if (dtype == BF16)
        for (int64_t i = 0; i < count; i++)
            buffer[i] = float_of((uint32_t)h[i] << 16);
    else
        for (int64_t i = 0; i < count; i++)
            buffer[i] = float_of_half(h[i]);
    return buffer;
}

INLINE void store_floats(const float *f, void *y, int dtype, int64_t first, int count)
{
    if (dtype == F32) {
        float *out = (float *)y + first;
        for (int i = 0; i < count; i++)
            out[i] = f[i] != f[i] ? float_of(0x7fc00000) : f[i];
        return;
    }
    uint16_t *out = (uint16_t *)y + first;
    if (dtype == BF16)
        for (int i = 0; i < count; i++)
            out[i] = bfloat_of_float(f[i]);
    else
        for (int i = 0; i < count; i++)
            out[i] = half_of_float(f[i]);
}

#endif
