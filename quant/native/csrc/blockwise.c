#include "blockwise.h"

#include <math.h>

#include "convert.h"

struct lanes {
    float narrow[LANES];
    double wide[LANES];
};

static int32_t level_at(const struct linear *p, int64_t element)
{
    uint8_t byte = p->packed[element >> 1];
    return p->levels[element & 1 ? byte & 15 : byte >> 4];
}

/* Output (m, n) before scaling. q: the row of activations, or NULL to compute each from x as quantize_row does. */
static double sum_row(const struct linear *p, const int16_t *q, double inverse, int64_t m, int64_t n, int wide)
{
    struct lanes lanes = {{0}, {0}};
    int32_t part = 0;
    for (int64_t k = 0; k < p->k; k++) {
        int64_t element = n * p->k + k;
        int32_t activation =
            q ? q[k] : (int32_t)rint((double)load_float(p->x, p->x_dtype, m * p->k + k) * inverse);
        part += activation * level_at(p, element);
        if (k % LANES < LANES - 1 && k < p->k - 1 && (element + 1) % p->block_size)
            continue;
        int lane = (int)(k / LANES % LANES);
        float absmax = absmax_of(p, element / p->block_size);
        lanes.narrow[lane] = fmaf((float)part, absmax, lanes.narrow[lane]);
        if (wide)
            lanes.wide[lane] = fma((double)part, (double)absmax, lanes.wide[lane]);
        part = 0;
    }
    float narrow = 0;
    double total = 0;
    for (int i = 0; i < LANES; i++) {
        narrow += lanes.narrow[i];
        total += lanes.wide[i];
    }
    return wide ? total : (double)narrow;
}

double blockwise_overflowed(const struct linear *p, const struct activations *a, int64_t m, int64_t n)
{
    float absmax = a->absmax[m];
    return absmax > 0 ? sum_row(p, NULL, 32767.0 / (double)absmax, m, n, 1) : NAN;
}

void blockwise_ragged(const struct linear *p, const struct activations *a, int64_t row0, int64_t row1)
{
    for (int64_t n = row0; n < row1; n++)
        for (int64_t m = 0; m < p->m; m++) {
            const int16_t *q = a->q + m * a->padded;
            double total = sum_row(p, q, 0, m, n, 0);
            if (!isfinite(total))
                total = sum_row(p, q, 0, m, n, 1);
            double y = total * a->unit[m];
            if (p->bias)
                y += (double)load_float(p->bias, p->bias_dtype, n);
            float rounded = (float)y;
            store_floats(&rounded, p->y, p->x_dtype, m * p->n + n, 1);
        }
}
