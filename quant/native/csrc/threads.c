/* Ranges of work on the threads of torch's OpenMP runtime (GOMP_parallel, which libgomp and libiomp5 both export), so that
 * there is one pool. Ranges are handed out by a counter: results do not depend on who computes them. */
#include "threads.h"

#include <stdatomic.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

static void (*openmp_parallel)(void (*)(void *), void *, unsigned, unsigned);

void set_openmp(void *gomp_parallel) { memcpy(&openmp_parallel, &gomp_parallel, sizeof gomp_parallel); }

struct job {
    void (*body)(void *context, int64_t first, int64_t last, int slot);
    void *context;
    int64_t items, step;
    atomic_llong next;
    atomic_int slots;
};

static void work(void *argument)
{
    struct job *job = argument;
    int slot = atomic_fetch_add(&job->slots, 1);
#if defined(__x86_64__)
    unsigned control = _mm_getcsr();
    _mm_setcsr(0x1f80); /* round to nearest, keep subnormals */
#endif
    for (;;) {
        int64_t first = atomic_fetch_add(&job->next, job->step);
        if (first >= job->items)
            break;
        int64_t last = first + job->step;
        job->body(job->context, first, last < job->items ? last : job->items, slot);
    }
#if defined(__x86_64__)
    _mm_setcsr(control);
#endif
}

void run_ranges(void (*body)(void *, int64_t, int64_t, int), void *context, int64_t items, int64_t step, int threads)
{
    struct job job = {.body = body, .context = context, .items = items, .step = step};
    int64_t ranges = (items + step - 1) / step;
    if (ranges < threads)
        threads = (int)ranges;
    if (threads > 1 && openmp_parallel)
        openmp_parallel(work, &job, (unsigned)threads, 0);
    else
        work(&job);
}
