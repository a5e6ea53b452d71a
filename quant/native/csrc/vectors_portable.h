/* The primitives of variant.inc in plain C, for any CPU; the compiler makes of the loops what it can. */

typedef struct { int32_t v[16]; } V;
typedef struct { int16_t v[32]; } P;
typedef struct { float v[16]; } F;
typedef struct { int16_t v[16]; } Table;

enum { NRV = 1, MR = 4, FEW_ROWS = 1, FEW_COLUMNS = 1, BLOCK_ROWS = 1 };

INLINE V zero_v(void) { return (V){{0}}; }
INLINE V add_v(V a, V b)
{
    for (int i = 0; i < 16; i++)
        a.v[i] += b.v[i];
    return a;
}
INLINE P load_p(const int16_t *a)
{
    P p;
    memcpy(p.v, a, sizeof p.v);
    return p;
}
INLINE void store_p(int16_t *a, P p) { memcpy(a, p.v, sizeof p.v); }
INLINE P pair_p(const int16_t *a)
{
    P p;
    for (int i = 0; i < 16; i++) {
        p.v[2 * i] = a[0];
        p.v[2 * i + 1] = a[1];
    }
    return p;
}
INLINE P codes_p(const int8_t *a)
{
    P p;
    for (int i = 0; i < 32; i++)
        p.v[i] = a[i];
    return p;
}
INLINE V dot(V sum, P a, P b)
{
    for (int i = 0; i < 16; i++)
        sum.v[i] += (int32_t)a.v[2 * i] * b.v[2 * i] + (int32_t)a.v[2 * i + 1] * b.v[2 * i + 1];
    return sum;
}
INLINE Table table(const int16_t *levels)
{
    Table t;
    memcpy(t.v, levels, sizeof t.v);
    return t;
}
INLINE void widen_p(P words, P *low, P *high)
{
    for (int i = 0; i < 32; i++) {
        low->v[i] = (int8_t)(uint16_t)words.v[i];
        high->v[i] = (int8_t)((uint16_t)words.v[i] >> 8);
    }
}
INLINE void nibbles_p(P words, Table t, P levels[4])
{
    for (int n = 0; n < 4; n++)
        for (int i = 0; i < 32; i++)
            levels[n].v[i] = t.v[(uint16_t)words.v[i] >> 4 * n & 15];
}
INLINE V add_pairs(V a, V b)
{
    V r;
    for (int i = 0; i < 16; i += 4) {
        r.v[i] = a.v[i] + a.v[i + 1];
        r.v[i + 1] = a.v[i + 2] + a.v[i + 3];
        r.v[i + 2] = b.v[i] + b.v[i + 1];
        r.v[i + 3] = b.v[i + 2] + b.v[i + 3];
    }
    return r;
}
INLINE int64_t sum_v(V a)
{
    int64_t sum = 0;
    for (int i = 0; i < 16; i++)
        sum += a.v[i];
    return sum;
}
INLINE void add_wide(int64_t *total, V a)
{
    for (int i = 0; i < 16; i++)
        total[i] += a.v[i];
}
INLINE F zero_f(void) { return (F){{0}}; }
INLINE F load_f(const float *a)
{
    F f;
    memcpy(f.v, a, sizeof f.v);
    return f;
}
INLINE F chunks_f(const float *a)
{
    F f;
    for (int i = 0; i < 16; i++)
        f.v[i] = a[i / 8 + i % 4 / 2 * 2];
    return f;
}
INLINE void store_f(float *a, F f) { memcpy(a, f.v, sizeof f.v); }
INLINE F add_f(F a, F b)
{
    for (int i = 0; i < 16; i++)
        a.v[i] += b.v[i];
    return a;
}
INLINE F fma_f(V a, F b, F c)
{
    for (int i = 0; i < 16; i++)
        c.v[i] = fmaf((float)a.v[i], b.v[i], c.v[i]);
    return c;
}
INLINE void transpose(P r[16])
{
    P out[16];
    for (int row = 0; row < 16; row++)
        for (int d = 0; d < 16; d++)
            memcpy(&out[d].v[2 * row], &r[row].v[2 * d], 4);
    memcpy(r, out, sizeof out);
}
