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

struct adapted { /* a rectangle of the matrix */
    const void *weight; /* its first element in W, naturally aligned */
    int format;
    const double *a; /* [rank, stride], of which `columns` count */
    const double *b; /* [rows, rank] */
    size_t rank, columns, stride;
    size_t step; /* elements between the beginnings of two rows, of W and of out */
    double scale;
    double *out; /* overlaps nothing */
};

/* sums = b A, of one row; a: from the first column that is wanted on */
INLINE void products(double *restrict sums, const struct adapted *p, const double *restrict a,
                     const double *restrict b, size_t count) {
    size_t j = 0;
    for (size_t i = 0; i < count; i++)
        sums[i] = 0;
    for (; j + RANKS <= p->rank; j += RANKS)
        for (size_t i = 0; i < count; i++) {
            double sum = sums[i];
            for (size_t k = 0; k < RANKS; k++) {
                double product = b[j + k] * a[(j + k) * p->stride + i];
                sum += product;
            }
            sums[i] = sum;
        }
    for (; j < p->rank; j++)
        for (size_t i = 0; i < count; i++) {
            double product = b[j] * a[j * p->stride + i];
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

/* `count` elements of one row from `column` on */
INLINE void adapt_part(const struct adapted *p, size_t row, size_t column, size_t count) {
    double sums[TILE];
    products(sums, p, p->a + column, p->b + row * p->rank, count);
    const size_t at = row * p->step + column;
    const void *x = (const char *)p->weight + at * width(p->format);
    switch (p->format) {
    case BF16: adapt_bf16(p->out + at, x, sums, count, p->scale); break;
    case F16: adapt_f16(p->out + at, x, sums, count, p->scale); break;
    case F32: adapt_f32(p->out + at, x, sums, count, p->scale); break;
    default: adapt_f64(p->out + at, x, sums, count, p->scale);
    }
}

INLINE void adapt(const struct adapted *p, size_t rows) {
    for (size_t tile = 0; tile < p->columns; tile += TILE) {
        size_t length = p->columns - tile < TILE ? p->columns - tile : TILE;
        for (size_t row = 0; row < rows; row++)
            adapt_part(p, row, tile, length);
    }
}

#endif
