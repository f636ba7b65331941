#ifndef STOCKPOT_NARROW
#define STOCKPOT_NARROW
#include "ranges.h"

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
 *   u:    |v - m| >= u / d > 2^-12 u where d < 2^12, while fp32 moves v by at most 2^-24 times the
 *         binade of v, 2^e; u is at least 2^(e - 12), of float16 if m lies in the binade below.
 * A v that fp32 rounds up into the next binade moves by no more than that. Below the normal numbers
 * fp32 moves v by at most 2^-150, and both bounds are above 2^-134 / 2^12; it must not flush these
 * to zero, which the environment of `soup_block` sees to. By the same bounds the definition's own
 * rounding of S / d, to fp64, changes nothing either: both ways give S / d rounded once.
 *
 * Elements whose exponents differ by more, or whose products might leave fp32, are computed by the
 * definition: one at a time, since of trained weights they are one in a thousand, or, where they are
 * many, the whole chunk.
 *
 * Exponents may differ by less the larger sum |n_k| is. Below LEAST_SPREAD this does not pay; so it
 * serves sums, and denominators, which are no larger, up to 128 for bfloat16 and 16 for float16.
 */
#define GROUP 4
#define LEAST_SPREAD 8
#define MANY(count) ((count) / 8) /* open elements: one costs as much as some six of `chunk` */

struct sums {
    float value[CHUNK];
    uint16_t least[CHUNK + 4], most[CHUNK]; /* over the terms; as in `range`, least less one */
    /* `settle` is done with `least` and leaves 1 there for an open element, else 0 */
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

/* Divide and round; returns how many elements are left open, and marks these in `least`. */
#define SETTLE(format)                                                                             \
    INLINE int settle_##format(uint16_t *restrict out, struct sums *restrict s, size_t count,      \
                               float denominator, int fraction, struct limits may) {               \
        uint16_t found = 0;                                                                        \
        for (size_t i = 0; i < count; i++) {                                                       \
            int wide = (s->most[i] >> fraction) - (s->least[i] >> fraction) > may.spread;          \
            uint16_t open = (uint16_t)(wide | (s->most[i] >= may.ceiling));                        \
            out[i] = single_to_##format(s->value[i] / denominator);                                \
            s->least[i] = open;                                                                    \
            found += open;                                                                         \
        }                                                                                          \
        return found;                                                                              \
    }
SETTLE(bf16)
SETTLE(f16)

/* One element by the definition. */
static uint16_t defined(const struct block *b, size_t i) {
    double sum = -0.0; /* as in GATHER */
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

/* Returns 0 where the chunk is to be computed by the definition. */
INLINE int narrow_chunk(const struct block *b, struct limits may, size_t start, size_t count) {
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
    if ((size_t)open > MANY(count))
        return 0;
    if (open)
        finish(b, &s, start, count);
    if (b->high)
        range(out, b->out_format, count, b->low + b->terms, b->high + b->terms);
    return 1;
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
    if (format > F16 || b->out_format > F16 || b->denominator > whole)
        return 0;
    int bits = 0; /* sum |n_k| <= 2^bits */
    while (bits < 23 && (double)(1 << bits) < whole)
        bits++;
    may->spread = 23 - ((format == BF16 ? 7 : 10) + 1) - bits;
    may->ceiling = (uint16_t)(format == BF16 ? (254 - bits) << 7 : 31 << 10);
    return may->spread >= LEAST_SPREAD;
}

#endif
