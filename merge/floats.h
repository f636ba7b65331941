/* Numbers of safetensors: into fp64 exactly, and from it with one rounding. */
#ifndef STOCKPOT_FLOATS
#define STOCKPOT_FLOATS
#include <float.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __FAST_MATH__
#error "-ffast-math changes results"
#endif
#if FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16 /* 16: of half precision, which is not used */
#error "arithmetic in excess precision changes results"
#endif

#define INLINE static inline __attribute__((always_inline))

enum format { BF16, F16, F32, F64 }; /* as merge/compiled.py numbers them */

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

/* Loads: exact for every number, subnormals, -0.0 and infinity too; NaN stays NaN. */

INLINE double from_bf16(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Exponent and fraction in their places; the product puts right the bias, 15 instead of 1023. It
 * takes the largest exponent, of infinity and NaN, for one more binade: that is set anew.
 */
INLINE double from_f16(uint16_t x) {
    uint64_t bits = (uint64_t)(x & 0x7fff) << 42 | (uint64_t)(x >> 15) << 63;
    uint64_t beyond = (x & 0x7c00) == 0x7c00 ? (uint64_t)0x7ff << 52 : 0;
    return to_double(to_bits(to_double(bits) * 0x1p1008) | beyond);
}

INLINE double from_f32(float x) { return x; }
INLINE double from_f64(double x) { return x; }

/* Round once, ties to even, to a format of 16 bits; too large gives infinity.
 *
 * With 2^e the binade of |x|, or of the smallest normal number where that is larger, the result is
 * a multiple of 2^(e - fraction). That is the unit of the last place of fp64 in the binade of
 * 2^(e + 52 - fraction), so adding this number rounds as wanted, and the low bits of the sum count
 * the units. Added to the exponent, they are the result: a normal number's leading one, and a count
 * that reaches the next binade, carry into it. NaN gives infinity too: both are refused later.
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

INLINE size_t width(int format) { return format == F64 ? 8 : format == F32 ? 4 : 2; }

#endif
