#ifndef QUANT_THREADS_H
#define QUANT_THREADS_H

#include <stdint.h>

/* Where parallel regions come from: the address of GOMP_parallel. Until it is given, one thread computes. */
void set_openmp(void *gomp_parallel);

/* body(context, first, last, slot) over ranges of `step` of `items`; slot < threads tells the threads apart. */
void run_ranges(void (*body)(void *, int64_t, int64_t, int), void *context, int64_t items, int64_t step, int threads);

#endif
