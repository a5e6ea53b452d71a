/* The primitives of variant.inc for AVX-512 (F, BW, DQ, VL) with VNNI. */
#include <immintrin.h>

typedef __m512i V;  /* 16 int32 */
typedef __m512i P;  /* 32 int16 */
typedef __m512 F;   /* 16 float */
typedef __m512i Table;

enum { NRV = 2, MR = 6, FEW_ROWS = 4, FEW_COLUMNS = 4, BLOCK_ROWS = 4 };

INLINE V zero_v(void) { return _mm512_setzero_si512(); }
INLINE V add_v(V a, V b) { return _mm512_add_epi32(a, b); }
INLINE P load_p(const int16_t *a) { return _mm512_loadu_si512(a); }
INLINE void store_p(int16_t *a, P p) { _mm512_storeu_si512(a, p); }
INLINE P pair_p(const int16_t *a)
{
    int32_t two;
    memcpy(&two, a, 4);
    return _mm512_set1_epi32(two);
}
INLINE P codes_p(const int8_t *a) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)a)); }
INLINE V dot(V sum, P a, P b) { return _mm512_dpwssd_epi32(sum, a, b); }
INLINE Table table(const int16_t *levels)
{
    return _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)levels));
}
INLINE void widen_p(P words, P *low, P *high)
{
    *low = _mm512_srai_epi16(_mm512_slli_epi16(words, 8), 8);
    *high = _mm512_srai_epi16(words, 8);
}
INLINE void nibbles_p(P words, Table t, P levels[4])
{
    levels[0] = _mm512_permutexvar_epi16(words, t);
    levels[1] = _mm512_permutexvar_epi16(_mm512_srli_epi16(words, 4), t);
    levels[2] = _mm512_permutexvar_epi16(_mm512_srli_epi16(words, 8), t);
    levels[3] = _mm512_permutexvar_epi16(_mm512_srli_epi16(words, 12), t);
}
INLINE V add_pairs(V a, V b)
{
    __m512 x = _mm512_castsi512_ps(a), y = _mm512_castsi512_ps(b);
    return _mm512_add_epi32(_mm512_castps_si512(_mm512_shuffle_ps(x, y, 0x88)),
                            _mm512_castps_si512(_mm512_shuffle_ps(x, y, 0xdd)));
}
INLINE int64_t sum_v(V a)
{
    __m512i low = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(a));
    __m512i high = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(a, 1));
    return _mm512_reduce_add_epi64(_mm512_add_epi64(low, high));
}
INLINE void add_wide(int64_t *total, V a)
{
    __m512i low = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(a));
    __m512i high = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(a, 1));
    _mm512_storeu_si512(total, _mm512_add_epi64(low, _mm512_loadu_si512(total)));
    _mm512_storeu_si512(total + 8, _mm512_add_epi64(high, _mm512_loadu_si512(total + 8)));
}
INLINE F zero_f(void) { return _mm512_setzero_ps(); }
INLINE F load_f(const float *a) { return _mm512_loadu_ps(a); }
INLINE F chunks_f(const float *a)
{
    __m512i lanes = _mm512_setr_epi32(0, 0, 2, 2, 0, 0, 2, 2, 1, 1, 3, 3, 1, 1, 3, 3);
    return _mm512_permutexvar_ps(lanes, _mm512_castps128_ps512(_mm_loadu_ps(a)));
}
INLINE void store_f(float *a, F f) { _mm512_storeu_ps(a, f); }
INLINE F add_f(F a, F b) { return _mm512_add_ps(a, b); }
INLINE F fma_f(V a, F b, F c) { return _mm512_fmadd_ps(_mm512_cvtepi32_ps(a), b, c); }

/* r[row] holds 16 dwords; afterwards r[d] holds dword d of the 16 rows. */
INLINE void transpose(P r[16])
{
    __m512i a[16], b[16];
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        __m512i low = _mm512_shuffle_i32x4(b[i], b[i + 4], 0x88), high = _mm512_shuffle_i32x4(b[i], b[i + 4], 0xdd);
        __m512i low2 = _mm512_shuffle_i32x4(b[i + 8], b[i + 12], 0x88),
                high2 = _mm512_shuffle_i32x4(b[i + 8], b[i + 12], 0xdd);
        r[i] = _mm512_shuffle_i32x4(low, low2, 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(low, low2, 0xdd);
        r[i + 4] = _mm512_shuffle_i32x4(high, high2, 0x88);
        r[i + 12] = _mm512_shuffle_i32x4(high, high2, 0xdd);
    }
}
