/* Blocks, and the magnitudes that occur in them. */
#ifndef STOCKPOT_RANGES
#define STOCKPOT_RANGES
#include "floats.h"

#define CHUNK 1024 /* elements: their sums (8 KiB) and one input stay in the first-level cache */

struct block {
    const void *const *inputs; /* one array per term, naturally aligned */
    const int *formats;        /* of the inputs */
    const double *numerators;  /* integers */
    int terms;
    double denominator;
    void *out; /* aligned; overlaps no input */
    int out_format;
    uint64_t *low, *high; /* per term, and last for the output, or both NULL; see `range` */
};

/* The bits of floats, looked at in place. */
typedef uint16_t __attribute__((may_alias)) bits_16;
typedef uint32_t __attribute__((may_alias)) bits_32;
typedef uint64_t __attribute__((may_alias)) bits_64;

/* Bits of the largest |x|, and of the smallest that is not zero, less one: zero wraps around to the
 * largest integer and never wins. */
#define RANGE(bits)                                                                                \
    INLINE void range_##bits(const bits_##bits *x, size_t count, uint64_t *low, uint64_t *high) {  \
        uint##bits##_t least = UINT##bits##_MAX, most = 0;                                         \
        for (size_t i = 0; i < count; i++) {                                                       \
            uint##bits##_t size = x[i] & (UINT##bits##_MAX >> 1);                                  \
            uint##bits##_t less = (uint##bits##_t)(size - 1);                                      \
            least = less < least ? less : least;                                                   \
            most = size > most ? size : most;                                                      \
        }                                                                                          \
        if (least != UINT##bits##_MAX && least < *low)                                             \
            *low = least;                                                                          \
        if (most > *high)                                                                          \
            *high = most;                                                                          \
    }
RANGE(16)
RANGE(32)
RANGE(64)

INLINE void range(const void *x, int format, size_t count, uint64_t *low, uint64_t *high) {
    switch (format) {
    case F64: range_64(x, count, low, high); break;
    case F32: range_32(x, count, low, high); break;
    default: range_16(x, count, low, high);
    }
}

#endif
