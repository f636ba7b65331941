/* The arithmetic of a soup, compiled: the same bytes as merge/kernel.py, which says what they are.
 *
 * A plain shared object, called through ctypes (which lets go of the interpreter's lock); it needs
 * no Python header. Everything is element-wise and every rounding has its place in the definition,
 * so the instruction set, the length of a vector and the size of a block cannot change a byte. Sums
 * of 16-bit members are made in fp32 where that is proven to give the same bytes, see `narrow`.
 * Compile with -ffp-contract=off: a fused multiply-add would leave out a rounding where a product
 * is not exact. No intrinsics: the loops are plain enough for the compiler to vectorise (-O3
 * -fno-trapping-math).
 */
#include <fenv.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __FAST_MATH__
#error "-ffast-math changes results"
#endif

#define INLINE static inline __attribute__((always_inline))
#define CHUNK 1024 /* elements: their sums (8 KiB) and one input stay in the first-level cache */

enum format { BF16, F16, F32, F64 }; /* as merge/compiled.py numbers them */

struct block {
    const void *const *inputs; /* one array per term, naturally aligned */
    const int *formats;        /* of the inputs */
    const double *numerators;  /* integers */
    int terms;
    double denominator;
    void *out; /* aligned; overlaps no input */
    int out_format;
    uint64_t *low, *high; /* per term, and last for the output, or both NULL; see `ranges` */
};

INLINE double to_double(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE uint64_t to_bits(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Loads: exact for every finite number, subnormals and -0.0 too. */

INLINE double from_bf16(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Exponent and fraction in their places; the product puts right the bias, 15 instead of 1023. */
INLINE double from_f16(uint16_t x) {
    uint64_t bits = (uint64_t)(x & 0x7fff) << 42 | (uint64_t)(x >> 15) << 63;
    return to_double(bits) * 0x1p1008;
}

INLINE double from_f32(float x) { return x; }
INLINE double from_f64(double x) { return x; }

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

/* Round once, ties to even, to a format of 16 bits; too large gives infinity.
 *
 * With 2^e the binade of |x|, or of the smallest normal number where that is larger, the result is
 * a multiple of 2^(e - fraction). That is the unit of the last place of fp64 in the binade of
 * 2^(e + 52 - fraction), so adding this number rounds as wanted, and the low bits of the sum count
 * the units. Added to the exponent, they are the result: a normal number's leading one, and a count
 * that reaches the next binade, carry into it.
 */
INLINE uint16_t to_16(double value, int fraction, int bias) {
    const uint32_t smallest = (uint32_t)(1024 - bias) << 20; /* upper half of 2^(1 - bias) */
    const uint32_t beyond = (uint32_t)(1024 + bias) << 20;   /* of 2^(bias + 1) */
    const uint32_t infinity = (uint32_t)(2 * bias + 1) << fraction;
    uint64_t bits = to_bits(value);
    uint32_t upper = (uint32_t)(bits >> 32);
    uint32_t size = upper & 0x7fffffff;
    uint32_t binade = size & 0x7ff00000;
    binade = binade > smallest ? binade : smallest;
    uint64_t large = (uint64_t)(binade + ((uint32_t)(52 - fraction) << 20)) << 32;
    uint32_t units = (uint32_t)to_bits(to_double(bits & INT64_MAX) + to_double(large));
    uint32_t result = ((binade - smallest) >> (20 - fraction)) + units;
    result = size < beyond ? result : infinity;
    return (uint16_t)(result | (upper >> 16 & 0x8000));
}

INLINE uint16_t to_bf16(double value) { return to_16(value, 7, 127); }
INLINE uint16_t to_f16(double value) { return to_16(value, 10, 15); }
INLINE float to_f32(double value) { return (float)value; }
INLINE double to_f64(double value) { return value; }

#define DIVIDE(format, type)                                                                       \
    INLINE void divide_##format(type *out, const double *sums, size_t count, double denominator) { \
        for (size_t i = 0; i < count; i++)                                                         \
            out[i] = to_##format(sums[i] / denominator);                                           \
    }
DIVIDE(bf16, uint16_t)
DIVIDE(f16, uint16_t)
DIVIDE(f32, float)
DIVIDE(f64, double)

/* Bits of the largest |x|, and of the smallest that is not zero, less one: zero wraps around to the
 * largest integer and never wins. */
#define RANGE(bits)                                                                                \
    INLINE void range_##bits(const uint##bits##_t *x, size_t count, uint64_t *low, uint64_t *high) { \
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

INLINE size_t width(int format) { return format == F64 ? 8 : format == F32 ? 4 : 2; }

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

/* Sums in fp32: half the work of fp64, for elements where no bit can be lost.
 *
 * All terms have one 16-bit format and whole numerators n_k. Let 2^q be the last bit of an element's
 * smallest x_k that is not zero, and S = sum n_k x_k: a multiple of 2^q. Where the exponents of the
 * x_k differ by at most 23 - (fraction + 1) - log2(sum |n_k|), every product and every partial sum
 * is below 2^23 2^q, so fp32 makes S exactly, as fp64 does, whatever the order.
 *
 * Rounding S / d to fp32 on the way to 16 bits then changes nothing, although half-way cases are
 * frequent there. With v = S / d and m the half-way point of the output format next to v: a rounding
 * to fp32 cannot carry v across m, which fp32 holds, only onto it, and must not do so if v is not m.
 * Then S - d m is not zero and a multiple of 2^q or of the last bit u of m, whichever is smaller.
 *   2^q:  |v - m| >= 2^q / d > 2^-23 |v|, while fp32 moves v by at most 2^-24 |v|.
 *   u:    |v - m| >= u / d > 2^-12 u where d < 2^12, while fp32 moves v by at most 2^-13 u.
 * Below the normal numbers fp32 moves v by at most 2^-150, and both bounds are above 2^-134 / 2^12.
 * The same holds for fp64. Elements whose exponents differ by more, or whose products might leave
 * fp32, are computed by the definition one at a time: one in a thousand of trained weights.
 */
#define GROUP 4
#define LARGEST_DENOMINATOR 4095
#define LEAST_SPREAD 8 /* with less, too many elements would go one at a time */

struct sums {
    float value[CHUNK];
    uint16_t least[CHUNK + 4], most[CHUNK]; /* over the terms; as in `range`, least less one */
};

struct limits {
    int spread;       /* of the exponents of an element's inputs */
    uint16_t ceiling; /* every |x| is below this number, bits */
};

INLINE float to_single(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE uint32_t single_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

INLINE float single_from_bf16(uint16_t x) { return to_single((uint32_t)x << 16); }

INLINE float single_from_f16(uint16_t x) {
    return to_single((uint32_t)(x & 0x7fff) << 13 | (uint32_t)(x >> 15) << 31) * 0x1p112f;
}

/* Finite fp32 to the upper half of its bits; ties to even. */
INLINE uint16_t single_to_bf16(float value) {
    uint32_t bits = single_bits(value);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* As `to_16`, with the unit of the last place of fp32. */
INLINE uint16_t single_to_f16(float value) {
    const uint32_t smallest = 113u << 23, beyond = 143u << 23; /* 2^-14, 2^16 */
    uint32_t bits = single_bits(value);
    uint32_t size = bits & INT32_MAX;
    uint32_t binade = size & 0x7f800000;
    binade = binade > smallest ? binade : smallest;
    uint32_t large = binade + (13u << 23);
    uint32_t units = single_bits(to_single(size) + to_single(large)) - large;
    uint32_t result = ((binade - smallest) >> 13) + units;
    result = size < beyond ? result : 0x7c00;
    return (uint16_t)(result | (bits >> 16 & 0x8000));
}

/* Adding to -0.0 changes nothing, not even the sign of a zero. */
#define GATHER(format)                                                                             \
    INLINE void gather_##format(struct sums *restrict s, const uint16_t *const *x, const float *n, \
                                int terms, size_t count, int first) {                              \
        for (size_t i = 0; i < count; i++) {                                                       \
            float value = first ? -0.0f : s->value[i];                                             \
            uint16_t least = first ? UINT16_MAX : s->least[i];                                     \
            uint16_t most = first ? 0 : s->most[i];                                                \
            for (int k = 0; k < terms; k++) {                                                      \
                value += n[k] * single_from_##format(x[k][i]);                                     \
                uint16_t size = x[k][i] & INT16_MAX, less = (uint16_t)(size - 1);                  \
                least = less < least ? less : least;                                               \
                most = size > most ? size : most;                                                  \
            }                                                                                      \
            s->value[i] = value;                                                                   \
            s->least[i] = least;                                                                   \
            s->most[i] = most;                                                                     \
        }                                                                                          \
    }
GATHER(bf16)
GATHER(f16)

/* Divide and round; returns whether any element is left open, and marks these in `least`. */
#define SETTLE(format)                                                                             \
    INLINE int settle_##format(uint16_t *restrict out, struct sums *restrict s, size_t count,      \
                               float denominator, int fraction, struct limits may) {               \
        uint16_t any = 0;                                                                          \
        for (size_t i = 0; i < count; i++) {                                                       \
            int wide = (s->most[i] >> fraction) - (s->least[i] >> fraction) > may.spread;          \
            uint16_t open = (uint16_t)(wide | (s->most[i] >= may.ceiling));                        \
            out[i] = single_to_##format(s->value[i] / denominator);                                \
            s->least[i] = open;                                                                    \
            any |= open;                                                                           \
        }                                                                                          \
        return any;                                                                                \
    }
SETTLE(bf16)
SETTLE(f16)

/* One element by the definition. */
static uint16_t defined(const struct block *b, size_t i) {
    double sum = -0.0;
    for (int k = 0; k < b->terms; k++) {
        uint16_t x = ((const uint16_t *)b->inputs[k])[i];
        sum += b->numerators[k] * (b->formats[k] == BF16 ? from_bf16(x) : from_f16(x));
    }
    sum /= b->denominator;
    return b->out_format == BF16 ? to_bf16(sum) : to_f16(sum);
}

/* The elements that `settle` left open; few, so the marks are looked at by fours. */
INLINE void finish(const struct block *b, struct sums *s, size_t start, size_t count) {
    uint16_t *out = (uint16_t *)b->out + start;
    memset(s->least + count, 0, sizeof(uint64_t));
    for (size_t i = 0; i < count; i += 4) {
        uint64_t four;
        memcpy(&four, s->least + i, sizeof four);
        for (size_t j = i; four && j < i + 4; j++)
            if (s->least[j])
                out[j] = defined(b, start + j);
    }
}

/* The number of terms known when compiled: sums of a group stay in registers. */
INLINE void gather(struct sums *s, int format, const uint16_t *const *x, const float *n, int terms,
                   size_t count, int first) {
#define GATHER_TERMS(terms)                                                                        \
    case terms:                                                                                    \
        if (format == BF16)                                                                        \
            gather_bf16(s, x, n, terms, count, first);                                             \
        else                                                                                       \
            gather_f16(s, x, n, terms, count, first);                                              \
        break
    switch (terms) {
        GATHER_TERMS(1);
        GATHER_TERMS(2);
        GATHER_TERMS(3);
        GATHER_TERMS(GROUP);
    }
}

INLINE void narrow_chunk(const struct block *b, struct limits may, size_t start, size_t count) {
    struct sums s;
    const int format = b->formats[0];
    for (int k = 0; k < b->terms; k += GROUP) {
        const uint16_t *x[GROUP];
        float n[GROUP];
        int terms = b->terms - k < GROUP ? b->terms - k : GROUP;
        for (int j = 0; j < terms; j++) {
            x[j] = (const uint16_t *)b->inputs[k + j] + start;
            n[j] = (float)b->numerators[k + j];
            if (b->high)
                range(x[j], format, count, b->low + k + j, b->high + k + j);
        }
        gather(&s, format, x, n, terms, count, k == 0);
    }
    uint16_t *out = (uint16_t *)b->out + start;
    float denominator = (float)b->denominator;
    int fraction = format == BF16 ? 7 : 10;
    int open = b->out_format == BF16 ? settle_bf16(out, &s, count, denominator, fraction, may)
                                     : settle_f16(out, &s, count, denominator, fraction, may);
    if (open)
        finish(b, &s, start, count);
    if (b->high)
        range(out, b->out_format, count, b->low + b->terms, b->high + b->terms);
}

/* Whether the proof above serves this block, and for which of its elements. */
INLINE int narrow(const struct block *b, struct limits *may) {
    const int format = b->formats[0];
    double whole = 0;
    for (int k = 0; k < b->terms; k++) {
        double n = b->numerators[k];
        whole += n < 0 ? -n : n;
        if (b->formats[k] != format)
            return 0;
    }
    if (format > F16 || b->out_format > F16 || b->denominator > LARGEST_DENOMINATOR)
        return 0;
    int bits = 0; /* sum |n_k| <= 2^bits */
    while (bits < 23 && (double)(1 << bits) < whole)
        bits++;
    may->spread = format == BF16 ? 15 - bits : 12 - bits;
    may->ceiling = (uint16_t)(format == BF16 ? (254 - bits) << 7 : 31 << 10);
    return may->spread >= LEAST_SPREAD;
}

INLINE void whole(const struct block *b, size_t count) {
    struct limits may;
    int short_sums = narrow(b, &may);
    for (size_t start = 0; start < count; start += CHUNK) {
        size_t length = count - start < CHUNK ? count - start : CHUNK;
        if (short_sums)
            narrow_chunk(b, may, start, length);
        else
            chunk(b, start, length);
    }
}

/* One copy per instruction set, chosen when called: a wheel runs on any machine of its kind. */
static void level_0(const struct block *b, size_t count) { whole(b, count); }
#ifdef __x86_64__
__attribute__((target("avx2"))) static void level_1(const struct block *b, size_t count) {
    whole(b, count);
}
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))) static void
level_2(const struct block *b, size_t count) {
    whole(b, count);
}
#endif

/* Changes with the meaning of any argument, so that a stale build is not taken for this one. */
int soup_version(void) { return 1; }

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

/* Compute `count` elements. The caller's rounding mode and flushing of subnormals do not count. */
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
    case 2: level_2(b, count); break;
    case 1: level_1(b, count); break;
#endif
    default: level_0(b, count);
    }
    for (int k = 0; b->high && k <= b->terms; k++)
        b->low[k]++; /* none found: 0 */
    fesetenv(&callers);
}
