/* The lemma of merge/narrow.h, checked on every S below 2^23 and the denominators d it serves.
 *
 *     lemma FORMAT Q STEP    FORMAT as in merge/floats.h; Q: exponent of the last bit of the inputs;
 *                            STEP: every which d, from the largest one down
 *
 * S 2^Q / d is rounded to 16 bits by way of fp32, of fp64, and in integers; prints how many results
 * differ from the last, of either sign.
 */
#include <stdio.h>
#include <stdlib.h>
#include "narrow.h"

typedef unsigned __int128 wide;

/* Magnitude bits of sum 2^q / d, ties to even. */
static uint32_t exact(uint64_t sum, int q, uint64_t d, int fraction, int bias) {
    if (!sum)
        return 0;
    int binade = 0; /* of sum / d */
    while ((wide)sum >= (wide)d << (binade + 1))
        binade++;
    while (!binade && sum < d) {
        sum <<= 1; /* so that binade stays 0 */
        q--;
    }
    binade += q;
    int smallest = 1 - bias, unit = (binade < smallest ? smallest : binade) - fraction;
    wide over = sum, under = d;
    if (q > unit)
        over <<= q - unit;
    else
        under = unit - q < 64 ? under << (unit - q) : ~(wide)0;
    uint64_t count = (uint64_t)(over / under);
    wide twice = 2 * (over % under);
    count += twice > under || (twice == under && count % 2);
    uint64_t result = count + (binade < smallest ? 0 : (uint64_t)(binade - smallest) << fraction);
    uint64_t infinity = (uint64_t)(2 * bias + 1) << fraction;
    return (uint32_t)(result < infinity ? result : infinity);
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    int format = atoi(argv[1]), q = atoi(argv[2]), half = format == F16;
    int fraction = half ? 10 : 7, bias = half ? 15 : 127, most = half ? 16 : 128;
    int step = atoi(argv[3]);
    long narrow_wrong = 0, wide_wrong = 0;
    for (int d = most; d > 0; d -= step)
        for (uint32_t sum = 0; sum < 1u << 23; sum++) {
            uint32_t wanted = exact(sum, q, (uint64_t)d, fraction, bias);
            double value = __builtin_ldexp((double)sum, q);
            float quotient = (float)value / (float)d;
            for (uint32_t sign = 0; sign < 2; sign++) {
                float x = sign ? -quotient : quotient;
                double y = sign ? -value / d : value / d;
                narrow_wrong += (half ? single_to_f16(x) : single_to_bf16(x)) != (wanted | sign << 15);
                wide_wrong += (half ? to_f16(y) : to_bf16(y)) != (wanted | sign << 15);
            }
        }
    printf("%ld %ld\n", narrow_wrong, wide_wrong);
    return 0;
}
