/* The kernels for x86-64 with AVX-512 (F, BW, DQ, VL) and VNNI. */
#if defined(__x86_64__)
#define AVX512 "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target(AVX512))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,prefer-vector-width=512")
#endif
#include "convert.h"
#include "blockwise.h"
#define VARIANT kernels_avx512
#define VARIANT_NAME "avx512"
#include "vectors_avx512.h"
#include "variant.inc"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
