/* Ranges of work on the threads of torch's OpenMP runtime (GOMP_parallel, which libgomp and libiomp5 both export), so that
 * there is one pool. Ranges are handed out by a counter: results do not depend on who computes them. */
#include "threads.h"

#include <stdatomic.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Round to nearest and keep subnormals, whatever the caller's setting, which is returned. */
static uint64_t set_floats(void)
{
    uint64_t before = 0;
#if defined(__x86_64__)
    before = _mm_getcsr();
    _mm_setcsr(0x1f80);
#elif defined(__aarch64__)
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
#endif
    return before;
}

static void reset_floats(uint64_t before)
{
#if defined(__x86_64__)
    _mm_setcsr((unsigned)before);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(before));
#else
    (void)before;
#endif
}

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
    uint64_t floats = set_floats();
    for (;;) {
        int64_t first = atomic_fetch_add(&job->next, job->step);
        if (first >= job->items)
            break;
        int64_t last = first + job->step;
        job->body(job->context, first, last < job->items ? last : job->items, slot);
    }
    reset_floats(floats);
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
