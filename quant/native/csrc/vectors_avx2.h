/* The primitives of variant.inc for AVX2, FMA and F16C: 512 bits are two registers. */
#include <immintrin.h>

typedef struct { __m256i low, high; } V; /* 16 int32 */
typedef V P;                             /* 32 int16 */
typedef struct { __m256 low, high; } F;  /* 16 float */
typedef struct { __m256i low, high; } Table; /* the low and the high bytes of the levels, twice each */

enum { NRV = 1, MR = 4, FEW_ROWS = 2, FEW_COLUMNS = 2, BLOCK_ROWS = 2 };

INLINE __m256i load_256(const void *a) { return _mm256_loadu_si256((const __m256i *)a); }
INLINE void store_256(void *a, __m256i v) { _mm256_storeu_si256((__m256i *)a, v); }

INLINE V zero_v(void) { return (V){_mm256_setzero_si256(), _mm256_setzero_si256()}; }
INLINE V add_v(V a, V b) { return (V){_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)}; }
INLINE P load_p(const int16_t *a) { return (P){load_256(a), load_256(a + 16)}; }
INLINE void store_p(int16_t *a, P p)
{
    store_256(a, p.low);
    store_256(a + 16, p.high);
}
INLINE P pair_p(const int16_t *a)
{
    int32_t two;
    memcpy(&two, a, 4);
    __m256i v = _mm256_set1_epi32(two);
    return (P){v, v};
}
INLINE P codes_p(const int8_t *a)
{
    return (P){_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)a)),
               _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(a + 16)))};
}
INLINE __m256i add_in_place(__m256i sum, __m256i term)
{
    /* As an intrinsic, gcc 12 accumulates into other registers and moves the sums back in every step. */
    __asm__("vpaddd %1, %0, %0" : "+x"(sum) : "x"(term));
    return sum;
}
INLINE V dot(V sum, P a, P b)
{
    return (V){add_in_place(sum.low, _mm256_madd_epi16(a.low, b.low)),
               add_in_place(sum.high, _mm256_madd_epi16(a.high, b.high))};
}
INLINE Table table(const int16_t *levels)
{
    __m128i a = _mm_loadu_si128((const __m128i *)levels), b = _mm_loadu_si128((const __m128i *)(levels + 8));
    __m128i byte = _mm_set1_epi16(0xff);
    __m128i low = _mm_packus_epi16(_mm_and_si128(a, byte), _mm_and_si128(b, byte));
    __m128i high = _mm_packus_epi16(_mm_srli_epi16(a, 8), _mm_srli_epi16(b, 8));
    return (Table){_mm256_broadcastsi128_si256(low), _mm256_broadcastsi128_si256(high)};
}
INLINE void widen_256(__m256i words, __m256i *low, __m256i *high)
{
    *low = _mm256_srai_epi16(_mm256_slli_epi16(words, 8), 8);
    *high = _mm256_srai_epi16(words, 8);
}
INLINE void widen_p(P words, P *low, P *high)
{
    widen_256(words.low, &low->low, &high->low);
    widen_256(words.high, &low->high, &high->high);
}
/* The levels of two nibbles of each word, one in its low and one in its high byte. */
INLINE void look_up_words(Table t, __m256i index, __m256i *first, __m256i *second)
{
    __m256i low = _mm256_shuffle_epi8(t.low, index), high = _mm256_shuffle_epi8(t.high, index);
    __m256i odd = _mm256_set1_epi16((short)0xff00);
    *first = _mm256_blendv_epi8(low, _mm256_slli_epi16(high, 8), odd);
    *second = _mm256_blendv_epi8(_mm256_srli_epi16(low, 8), high, odd);
}
INLINE void nibbles_p(P words, Table t, P levels[4])
{
    __m256i nibble = _mm256_set1_epi8(0x0f);
    look_up_words(t, _mm256_and_si256(words.low, nibble), &levels[0].low, &levels[2].low);
    look_up_words(t, _mm256_and_si256(words.high, nibble), &levels[0].high, &levels[2].high);
    look_up_words(t, _mm256_and_si256(_mm256_srli_epi16(words.low, 4), nibble), &levels[1].low, &levels[3].low);
    look_up_words(t, _mm256_and_si256(_mm256_srli_epi16(words.high, 4), nibble), &levels[1].high, &levels[3].high);
}
INLINE V add_pairs(V a, V b) { return (V){_mm256_hadd_epi32(a.low, b.low), _mm256_hadd_epi32(a.high, b.high)}; }
INLINE __m256i wide(__m256i a, int half)
{
    return _mm256_cvtepi32_epi64(half ? _mm256_extracti128_si256(a, 1) : _mm256_castsi256_si128(a));
}
INLINE int64_t sum_v(V a)
{
    __m256i sum = _mm256_add_epi64(_mm256_add_epi64(wide(a.low, 0), wide(a.low, 1)),
                                   _mm256_add_epi64(wide(a.high, 0), wide(a.high, 1)));
    int64_t four[4];
    store_256(four, sum);
    return four[0] + four[1] + four[2] + four[3];
}
INLINE void add_wide(int64_t *total, V a)
{
    store_256(total, _mm256_add_epi64(wide(a.low, 0), load_256(total)));
    store_256(total + 4, _mm256_add_epi64(wide(a.low, 1), load_256(total + 4)));
    store_256(total + 8, _mm256_add_epi64(wide(a.high, 0), load_256(total + 8)));
    store_256(total + 12, _mm256_add_epi64(wide(a.high, 1), load_256(total + 12)));
}
INLINE F zero_f(void) { return (F){_mm256_setzero_ps(), _mm256_setzero_ps()}; }
INLINE F load_f(const float *a) { return (F){_mm256_loadu_ps(a), _mm256_loadu_ps(a + 8)}; }
INLINE F chunks_f(const float *a)
{
    __m256 v = _mm256_broadcast_ps((const __m128 *)a);
    return (F){_mm256_permute_ps(v, 0xa0), _mm256_permute_ps(v, 0xf5)};
}
INLINE void store_f(float *a, F f)
{
    _mm256_storeu_ps(a, f.low);
    _mm256_storeu_ps(a + 8, f.high);
}
INLINE F add_f(F a, F b) { return (F){_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
INLINE F fma_f(V a, F b, F c)
{
    return (F){_mm256_fmadd_ps(_mm256_cvtepi32_ps(a.low), b.low, c.low),
               _mm256_fmadd_ps(_mm256_cvtepi32_ps(a.high), b.high, c.high)};
}

INLINE void transpose_8(__m256i r[8])
{
    __m256i a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
        a[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        b[i] = _mm256_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm256_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm256_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm256_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x20);
        r[i + 4] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x31);
    }
}

/* r[row] holds 16 dwords; afterwards r[d] holds dword d of the 16 rows. */
INLINE void transpose(P r[16])
{
    __m256i quarter[8];
    P out[16];
    for (int half = 0; half < 2; half++)
        for (int dwords = 0; dwords < 2; dwords++) {
            for (int i = 0; i < 8; i++)
                quarter[i] = dwords ? r[8 * half + i].high : r[8 * half + i].low;
            transpose_8(quarter);
            for (int i = 0; i < 8; i++)
                *(half ? &out[8 * dwords + i].high : &out[8 * dwords + i].low) = quarter[i];
        }
    for (int i = 0; i < 16; i++)
        r[i] = out[i];
}
