/* The arithmetic of a soup, compiled: the same bytes as merge/kernel.py, which says what they are.
 *
 * A plain shared object, called through ctypes (which lets go of the interpreter's lock); it needs
 * no Python header. Everything is element-wise and every rounding has its place in the definition,
 * so the instruction set, the length of a vector and the size of a block cannot change a byte. Sums
 * of 16-bit members are made in fp32 where that is proven to give the same bytes (narrow.h).
 * Compile with -ffp-contract=off: a fused multiply-add would leave out a rounding where a product
 * is not exact. No intrinsics: the loops are plain enough for the compiler to vectorise (-O3
 * -fno-trapping-math).
 */
#include <fenv.h>

#include "adapt.h"
#include "narrow.h"

/* sums = n x, or sums += n x. */
#define ADD(format, type)                                                                          \
    INLINE void add_##format(double *sums, const type *x, size_t count, double n, int first) {     \
        for (size_t i = 0; i < count; i++) {                                                       \
            double product = n * from_##format(x[i]);                                              \
            sums[i] = first ? product : sums[i] + product;                                         \
        }                                                                                          \
    }
ADD(bf16, uint16_t)
ADD(f16, uint16_t)
ADD(f32, float)
ADD(f64, double)

#define DIVIDE(format, type)                                                                       \
    INLINE void divide_##format(type *out, const double *sums, size_t count, double denominator) { \
        for (size_t i = 0; i < count; i++)                                                         \
            out[i] = to_##format(sums[i] / denominator);                                           \
    }
DIVIDE(bf16, uint16_t)
DIVIDE(f16, uint16_t)
DIVIDE(f32, float)
DIVIDE(f64, double)

INLINE void chunk(const struct block *b, size_t start, size_t count) {
    double sums[CHUNK];
    for (int k = 0; k < b->terms; k++) {
        const void *x = (const char *)b->inputs[k] + start * width(b->formats[k]);
        double n = b->numerators[k];
        if (b->high)
            range(x, b->formats[k], count, b->low + k, b->high + k);
        switch (b->formats[k]) {
        case BF16: add_bf16(sums, x, count, n, k == 0); break;
        case F16: add_f16(sums, x, count, n, k == 0); break;
        case F32: add_f32(sums, x, count, n, k == 0); break;
        default: add_f64(sums, x, count, n, k == 0);
        }
    }
    void *out = (char *)b->out + start * width(b->out_format);
    switch (b->out_format) {
    case BF16: divide_bf16(out, sums, count, b->denominator); break;
    case F16: divide_f16(out, sums, count, b->denominator); break;
    case F32: divide_f32(out, sums, count, b->denominator); break;
    default: divide_f64(out, sums, count, b->denominator);
    }
    if (b->high)
        range(out, b->out_format, count, b->low + b->terms, b->high + b->terms);
}

INLINE void whole(const struct block *b, size_t count) {
    struct limits may;
    int short_sums = narrow(b, &may);
    for (size_t start = 0; start < count; start += CHUNK) {
        size_t length = count - start < CHUNK ? count - start : CHUNK;
        if (!short_sums || !narrow_chunk(b, may, start, length))
            chunk(b, start, length);
    }
}

/* One copy per instruction set, chosen when called: a wheel runs on any machine of its kind. */
static void whole_0(const struct block *b, size_t count) { whole(b, count); }
static void adapt_0(const struct adapted *p, size_t rows) { adapt(p, rows); }
#ifdef __x86_64__
#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
AVX2 static void whole_1(const struct block *b, size_t count) { whole(b, count); }
AVX2 static void adapt_1(const struct adapted *p, size_t rows) { adapt(p, rows); }
AVX512 static void whole_2(const struct block *b, size_t count) { whole(b, count); }
AVX512 static void adapt_2(const struct adapted *p, size_t rows) { adapt(p, rows); }
#endif

/* Changes with what a call means or does, so that an old build is not taken for this one. */
int soup_version(void) { return 4; }

/* The highest level that this processor has. */
int soup_level(void) {
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return 2;
    if (__builtin_cpu_supports("avx2"))
        return 1;
#endif
    return 0;
}

/* Compute `count` elements. The caller's rounding mode and flushing of subnormals do not count here;
 * what Python computes around a call, merge/arithmetic.py sees to. */
void soup_block(const struct block *b, size_t count, int level) {
    fenv_t callers;
    fegetenv(&callers);
    fesetenv(FE_DFL_ENV);
    for (int k = 0; b->high && k <= b->terms; k++) {
        b->low[k] = UINT64_MAX;
        b->high[k] = 0;
    }
    switch (level) {
#ifdef __x86_64__
    case 2: whole_2(b, count); break;
    case 1: whole_1(b, count); break;
#endif
    default: whole_0(b, count);
    }
    for (int k = 0; b->high && k <= b->terms; k++)
        b->low[k]++; /* none found: 0 */
    fesetenv(&callers);
}

/* Compute `rows` rows of a rectangle of an adapted matrix, under the same conditions. */
void soup_adapt(const struct adapted *p, size_t rows, int level) {
    fenv_t callers;
    fegetenv(&callers);
    fesetenv(FE_DFL_ENV);
    switch (level) {
#ifdef __x86_64__
    case 2: adapt_2(p, rows); break;
    case 1: adapt_1(p, rows); break;
#endif
    default: adapt_0(p, rows);
    }
    fesetenv(&callers);
}
