/* One adapted matrix, W + s B A, by the definition of merge/lora.py: rank after rank, no shortcut.
 *
 * What makes it fast changes no order: ranks are taken by eights, so that a sum stays in a register
 * for that long, and columns by tiles, so that a tile of A stays in a cache for all rows.
 */
#ifndef STOCKPOT_ADAPT
#define STOCKPOT_ADAPT
#include "floats.h"

#define TILE 256 /* columns */
#define RANKS 8

struct adapted {
    const void *weight; /* W's elements from `start` on, naturally aligned */
    int format;
    const double *a; /* [rank, stride], of which `columns` count */
    const double *b; /* [rows, rank]: the rows that hold any of the elements */
    size_t rank, columns, stride;
    size_t start; /* column of the first element */
    double scale;
    double *out; /* overlaps nothing */
};

/* sums = b A, of one row; a: from the first column that is wanted on */
INLINE void products(double *restrict sums, const struct adapted *p, const double *restrict a,
                     const double *restrict b, size_t count) {
    size_t j = 0;
    for (size_t i = 0; i < count; i++)
        sums[i] = 0;
    for (; j + RANKS <= p->rank; j += RANKS, a += RANKS * p->stride)
        for (size_t i = 0; i < count; i++) {
            double sum = sums[i];
            for (size_t k = 0; k < RANKS; k++) {
                double product = b[j + k] * a[k * p->stride + i];
                sum += product;
            }
            sums[i] = sum;
        }
    for (; j < p->rank; j++, a += p->stride)
        for (size_t i = 0; i < count; i++) {
            double product = b[j] * a[i];
            sums[i] += product;
        }
}

/* out = W + s sums */
#define ADAPT(format, type)                                                                        \
    INLINE void adapt_##format(double *restrict out, const type *x, const double *sums,            \
                               size_t count, double scale) {                                       \
        for (size_t i = 0; i < count; i++) {                                                       \
            double scaled = sums[i] * scale;                                                       \
            out[i] = from_##format(x[i]) + scaled;                                                 \
        }                                                                                          \
    }
ADAPT(bf16, uint16_t)
ADAPT(f16, uint16_t)
ADAPT(f32, float)
ADAPT(f64, double)

/* `count` elements of one row from `column` on, the `at`th of all and those after it */
INLINE void adapt_part(const struct adapted *p, size_t row, size_t column, size_t at,
                       size_t count) {
    double sums[TILE];
    products(sums, p, p->a + column, p->b + row * p->rank, count);
    const void *x = (const char *)p->weight + at * width(p->format);
    switch (p->format) {
    case BF16: adapt_bf16(p->out + at, x, sums, count, p->scale); break;
    case F16: adapt_f16(p->out + at, x, sums, count, p->scale); break;
    case F32: adapt_f32(p->out + at, x, sums, count, p->scale); break;
    default: adapt_f64(p->out + at, x, sums, count, p->scale);
    }
}

INLINE void adapt(const struct adapted *p, size_t count) {
    const size_t last = p->start + count; /* elements, counted from the first row's start */
    for (size_t tile = 0; tile < p->columns; tile += TILE) {
        size_t length = p->columns - tile < TILE ? p->columns - tile : TILE;
        for (size_t row = 0; row * p->columns + tile < last; row++) {
            size_t line = row * p->columns, from = line + tile, to = from + length;
            from = from > p->start ? from : p->start;
            to = to < last ? to : last;
            if (from < to)
                adapt_part(p, row, from - line, from - p->start, to - from);
        }
    }
}

#endif
