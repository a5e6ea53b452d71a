/* The kernels in plain C. */
#include "convert.h"
#include "blockwise.h"
#define VARIANT kernels_portable
#define VARIANT_NAME "portable"
#include <math.h>
#include "vectors_portable.h"
#include "variant.inc"
