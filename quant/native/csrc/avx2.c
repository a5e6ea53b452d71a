/* The kernels for x86-64 with AVX2, FMA and F16C. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif
#include "convert.h"
#include "blockwise.h"
#define VARIANT kernels_avx2
#define VARIANT_NAME "avx2"
#include "vectors_avx2.h"
#include "variant.inc"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
