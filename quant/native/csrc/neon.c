/* The kernels for 64-bit ARM. */
#if defined(__aarch64__)
#include "convert.h"
#include "blockwise.h"
#define VARIANT kernels_neon
#define VARIANT_NAME "neon"
#include "vectors_neon.h"
#include "variant.inc"
#endif
