/* quant.native._kernels: the kernels as Python functions of addresses and sizes.
 *
 * Nothing here knows torch: the callers in quant/native/calls.py check tensors and pass their addresses, so one binary
 * serves every version of torch, and the limited API every version of Python. Sizes are checked once more. */
#include "arguments.h"
#include "driver.h"
#include "threads.h"

static const struct kernels *variants[] = {
#if defined(__x86_64__)
    &kernels_avx512,
    &kernels_avx2,
#elif defined(__aarch64__)
    &kernels_neon,
#endif
    &kernels_portable,
};
enum { VARIANTS = sizeof variants / sizeof *variants };

static int runs_here(const struct kernels *kernels)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    if (kernels == &kernels_avx2)
        return avx2;
    if (kernels == &kernels_avx512)
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512vnni");
#endif
    (void)kernels;
    return 1;
}

static PyObject *supported(PyObject *self, PyObject *ignored)
{
    (void)self;
    (void)ignored;
    PyObject *names = PyList_New(0);
    for (int i = 0; names && i < VARIANTS; i++) {
        PyObject *name = runs_here(variants[i]) ? PyUnicode_FromString(variants[i]->name) : NULL;
        if (name && PyList_Append(names, name) < 0)
            Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return names;
}

static PyObject *share_openmp(PyObject *self, PyObject *address)
{
    (void)self;
    void *function = PyLong_AsVoidPtr(address);
    if (PyErr_Occurred())
        return NULL;
    set_openmp(function);
    Py_RETURN_NONE;
}

static const struct kernels *next_variant(struct reader *r)
{
    int64_t index = next_size(r);
    for (int i = 0; i < VARIANTS && !PyErr_Occurred(); i++)
        if (runs_here(variants[i]) && index-- == 0)
            return variants[i];
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, "no such variant");
    return NULL;
}

static int sound(int64_t m, int64_t n, int64_t k, int64_t block_size, int64_t threads)
{
    int64_t most = (int64_t)1 << 44; /* more than memory holds, and scratch for so many, for all threads, is within 2^63 */
    if (m < 0 || n < 0 || k < 0 || (n && k > most / n) || (m && k > most / m) || (m && n > most / m))
        PyErr_SetString(PyExc_ValueError, "sizes out of range");
    else if (block_size < 32 || block_size > most || block_size & (block_size - 1))
        PyErr_SetString(PyExc_ValueError, "the block size is no power of two from 32 on");
    else if (threads < 1 || threads > 4096)
        PyErr_SetString(PyExc_ValueError, "the number of threads is out of range");
    return !PyErr_Occurred();
}

/* Whether there is an address for every operand, as there must be where one has elements. */
static int present(int every)
{
    if (!every)
        PyErr_SetString(PyExc_ValueError, "an operand has no address");
    return every;
}

static PyObject *finish_linear(const struct kernels *kernels, const struct linear *linear, int64_t threads)
{
    int result = 0;
    if (linear->m && linear->n) {
        Py_BEGIN_ALLOW_THREADS
        result = run_linear(kernels, linear, (int)threads);
        Py_END_ALLOW_THREADS
    }
    if (result)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static void next_operands(struct reader *r, struct linear *p)
{
    p->few = next_choice(r, 1);
    p->m = next_size(r);
    p->n = next_size(r);
    p->k = next_size(r);
    p->x = next_address(r);
    p->x_dtype = next_choice(r, F16);
    p->bias = next_address(r);
    p->bias_dtype = next_choice(r, F16);
    p->y = next_address(r);
}

/* linear_int8(variant, threads, few, m, n, k, x, x_dtype, bias, bias_dtype, y, codes, scales) */
static PyObject *linear_int8(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    (void)self;
    struct reader r = {args, count};
    struct linear p = {.block_size = CHUNK};
    const struct kernels *kernels = next_variant(&r);
    int64_t threads = next_size(&r);
    next_operands(&r, &p);
    p.codes = next_address(&r);
    p.scales = next_address(&r);
    if (!read_all(&r) || !sound(p.m, p.n, p.k, p.block_size, threads))
        return NULL;
    if (p.m && p.n && !present(p.y && p.scales && (!p.k || (p.x && p.codes))))
        return NULL;
    return finish_linear(kernels, &p, threads);
}

/* linear_blockwise(variant, threads, few, m, n, k, x, x_dtype, bias, bias_dtype, y, packed, absmax, absmax_scales,
 *                  level8, absmax_offset, levels, divisor, block_size) */
static PyObject *linear_blockwise(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    (void)self;
    struct reader r = {args, count};
    struct linear p = {0};
    const struct kernels *kernels = next_variant(&r);
    int64_t threads = next_size(&r);
    next_operands(&r, &p);
    p.packed = next_address(&r);
    p.absmax = next_address(&r);
    p.absmax_scales = next_address(&r);
    p.level8 = next_address(&r);
    const float *offset = next_address(&r);
    p.levels = next_address(&r);
    p.divisor = next_number(&r);
    p.block_size = next_size(&r);
    if (!read_all(&r) || !sound(p.m, p.n, p.k, p.block_size, threads))
        return NULL;
    int scaled = p.absmax && (p.absmax_scales ? p.level8 && offset : !p.level8 && !offset);
    if (p.m && p.n && !present(p.y && p.levels && (!p.k || (p.x && p.packed && scaled))))
        return NULL;
    p.absmax_offset = offset ? *offset : 0;
    return finish_linear(kernels, &p, threads);
}

static PyObject *finish_quantize(const struct kernels *kernels, const struct weight *w, int64_t threads)
{
    int64_t bad = 0;
    if (w->n) {
        Py_BEGIN_ALLOW_THREADS
        bad = run_quantize(kernels, w, (int)threads);
        Py_END_ALLOW_THREADS
    }
    return bad < 0 ? PyErr_NoMemory() : PyLong_FromLongLong(bad);
}

/* quantize_int8(variant, threads, n, k, w, dtype, codes, scales) -> values that are not finite */
static PyObject *quantize_int8(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    (void)self;
    struct reader r = {args, count};
    struct weight w = {.block_size = CHUNK};
    const struct kernels *kernels = next_variant(&r);
    int64_t threads = next_size(&r);
    w.n = next_size(&r);
    w.k = next_size(&r);
    w.w = next_address(&r);
    w.dtype = next_choice(&r, F16);
    w.codes = next_address(&r);
    w.scales = next_address(&r);
    if (!read_all(&r) || !sound(0, w.n, w.k, w.block_size, threads))
        return NULL;
    if (w.n && !present(w.scales && (!w.k || (w.w && w.codes))))
        return NULL;
    return finish_quantize(kernels, &w, threads);
}

/* quantize_blocks(variant, threads, count, w, dtype, block_size, midpoints, order, packed, absmax) -> likewise */
static PyObject *quantize_blocks(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    (void)self;
    struct reader r = {args, count};
    struct weight w = {.n = 1};
    const struct kernels *kernels = next_variant(&r);
    int64_t threads = next_size(&r);
    w.k = next_size(&r);
    w.w = next_address(&r);
    w.dtype = next_choice(&r, F16);
    w.block_size = next_size(&r);
    w.midpoints = next_address(&r);
    w.order = next_address(&r);
    w.packed = next_address(&r);
    w.scales = next_address(&r);
    if (!read_all(&r) || !sound(0, w.n, w.k, w.block_size, threads))
        return NULL;
    if (w.k && !present(w.w && w.midpoints && w.order && w.packed && w.scales))
        return NULL;
    return finish_quantize(kernels, &w, threads);
}

#define FASTCALL(function) (PyCFunction)(void (*)(void))function, METH_FASTCALL, NULL

static PyMethodDef methods[] = {
    {"supported", supported, METH_NOARGS, NULL},
    {"share_openmp", share_openmp, METH_O, NULL},
    {"linear_int8", FASTCALL(linear_int8)},
    {"linear_blockwise", FASTCALL(linear_blockwise)},
    {"quantize_int8", FASTCALL(quantize_int8)},
    {"quantize_blocks", FASTCALL(quantize_blocks)},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_kernels", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernels(void) { return PyModule_Create(&definition); }
