/* The primitives of variant.inc for 64-bit ARM (Advanced SIMD, which every such CPU has). */
#include <arm_neon.h>

typedef struct { int32x4_t v[4]; } V;
typedef struct { int16x8_t v[4]; } P;
typedef struct { float32x4_t v[4]; } F;
typedef struct { uint8x16_t low, high; } Table; /* bytes of the 16 levels */

enum { NRV = 1, MR = 4, FEW_ROWS = 2, FEW_COLUMNS = 2, BLOCK_ROWS = 2 };

#define EACH(i) for (int i = 0; i < 4; i++)

INLINE V zero_v(void)
{
    V r;
    EACH(i) r.v[i] = vdupq_n_s32(0);
    return r;
}
INLINE V add_v(V a, V b)
{
    EACH(i) a.v[i] = vaddq_s32(a.v[i], b.v[i]);
    return a;
}
INLINE P load_p(const int16_t *a)
{
    P p;
    EACH(i) p.v[i] = vld1q_s16(a + 8 * i);
    return p;
}
INLINE void store_p(int16_t *a, P p) { EACH(i) vst1q_s16(a + 8 * i, p.v[i]); }
INLINE P pair_p(const int16_t *a)
{
    int32_t two;
    P p;
    memcpy(&two, a, 4);
    EACH(i) p.v[i] = vreinterpretq_s16_s32(vdupq_n_s32(two));
    return p;
}
INLINE P codes_p(const int8_t *a)
{
    P p;
    EACH(i) p.v[i] = vmovl_s8(vld1_s8(a + 8 * i));
    return p;
}
INLINE V dot(V sum, P a, P b)
{
    EACH(i) sum.v[i] = vaddq_s32(sum.v[i], vpaddq_s32(vmull_s16(vget_low_s16(a.v[i]), vget_low_s16(b.v[i])),
                                                      vmull_high_s16(a.v[i], b.v[i])));
    return sum;
}
INLINE Table table(const int16_t *levels)
{
    uint8x16_t first = vreinterpretq_u8_s16(vld1q_s16(levels)), second = vreinterpretq_u8_s16(vld1q_s16(levels + 8));
    return (Table){vuzp1q_u8(first, second), vuzp2q_u8(first, second)};
}
INLINE void widen_p(P words, P *low, P *high)
{
    EACH(i) low->v[i] = vshrq_n_s16(vshlq_n_s16(words.v[i], 8), 8);
    EACH(i) high->v[i] = vshrq_n_s16(words.v[i], 8);
}
/* The levels of 16 codes, each in the low nibble of a byte. */
INLINE void look_up(uint8x16_t codes, Table t, int16x8_t *first, int16x8_t *second)
{
    uint8x16_t low = vqtbl1q_u8(t.low, codes), high = vqtbl1q_u8(t.high, codes);
    *first = vreinterpretq_s16_u8(vzip1q_u8(low, high));
    *second = vreinterpretq_s16_u8(vzip2q_u8(low, high));
}
INLINE void nibbles_p(P words, Table t, P levels[4])
{
    uint8x16_t mask = vdupq_n_u8(15);
    for (int half = 0; half < 2; half++) {
        uint8x16_t a = vreinterpretq_u8_s16(words.v[2 * half]), b = vreinterpretq_u8_s16(words.v[2 * half + 1]);
        uint8x16_t low = vuzp1q_u8(a, b), high = vuzp2q_u8(a, b);
        look_up(vandq_u8(low, mask), t, levels[0].v + 2 * half, levels[0].v + 2 * half + 1);
        look_up(vshrq_n_u8(low, 4), t, levels[1].v + 2 * half, levels[1].v + 2 * half + 1);
        look_up(vandq_u8(high, mask), t, levels[2].v + 2 * half, levels[2].v + 2 * half + 1);
        look_up(vshrq_n_u8(high, 4), t, levels[3].v + 2 * half, levels[3].v + 2 * half + 1);
    }
}
INLINE V add_pairs(V a, V b)
{
    EACH(i) a.v[i] = vpaddq_s32(a.v[i], b.v[i]);
    return a;
}
INLINE int64_t sum_v(V a)
{
    int64_t sum = 0;
    EACH(i) sum += vaddlvq_s32(a.v[i]);
    return sum;
}
INLINE void add_wide(int64_t *total, V a)
{
    EACH(i)
    {
        vst1q_s64(total + 4 * i, vaddw_s32(vld1q_s64(total + 4 * i), vget_low_s32(a.v[i])));
        vst1q_s64(total + 4 * i + 2, vaddw_high_s32(vld1q_s64(total + 4 * i + 2), a.v[i]));
    }
}
INLINE F zero_f(void)
{
    F r;
    EACH(i) r.v[i] = vdupq_n_f32(0);
    return r;
}
INLINE F load_f(const float *a)
{
    F f;
    EACH(i) f.v[i] = vld1q_f32(a + 4 * i);
    return f;
}
INLINE F chunks_f(const float *a)
{
    float32x4_t chunks = vld1q_f32(a);
    float32x4_t even = vzip1q_f32(chunks, chunks), odd = vzip2q_f32(chunks, chunks); /* 0 0 1 1, 2 2 3 3 */
    float32x4_t first = vcombine_f32(vget_low_f32(even), vget_low_f32(odd));
    float32x4_t second = vcombine_f32(vget_high_f32(even), vget_high_f32(odd));
    return (F){{first, first, second, second}};
}
INLINE void store_f(float *a, F f) { EACH(i) vst1q_f32(a + 4 * i, f.v[i]); }
INLINE F add_f(F a, F b)
{
    EACH(i) a.v[i] = vaddq_f32(a.v[i], b.v[i]);
    return a;
}
INLINE F fma_f(V a, F b, F c)
{
    EACH(i) c.v[i] = vfmaq_f32(c.v[i], vcvtq_f32_s32(a.v[i]), b.v[i]);
    return c;
}
/* r[row] holds 16 dwords; afterwards r[d] holds dword d of the 16 rows. */
INLINE void transpose(P r[16])
{
    P out[16];
    EACH(m) EACH(k)
    {
        int32x4_t row[4];
        EACH(i) row[i] = vreinterpretq_s32_s16(r[4 * m + i].v[k]);
        int64x2_t a = vreinterpretq_s64_s32(vtrn1q_s32(row[0], row[1])), b = vreinterpretq_s64_s32(vtrn2q_s32(row[0], row[1]));
        int64x2_t c = vreinterpretq_s64_s32(vtrn1q_s32(row[2], row[3])), d = vreinterpretq_s64_s32(vtrn2q_s32(row[2], row[3]));
        out[4 * k].v[m] = vreinterpretq_s16_s64(vtrn1q_s64(a, c));
        out[4 * k + 1].v[m] = vreinterpretq_s16_s64(vtrn1q_s64(b, d));
        out[4 * k + 2].v[m] = vreinterpretq_s16_s64(vtrn2q_s64(a, c));
        out[4 * k + 3].v[m] = vreinterpretq_s16_s64(vtrn2q_s64(b, d));
    }
    memcpy(r, out, sizeof out);
}
