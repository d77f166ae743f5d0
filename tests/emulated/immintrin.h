/* AVX-512 and AVX-VNNI for processors that lack them: SIMDe's intrinsics, and those of `encoder.c` that SIMDe 0.7.4
 * does not have.
 *
 * SIMDe reads the compiler's own header of this name; then this file steps aside.
 */
#ifdef WINDROW_EMULATED
#include_next <immintrin.h>
#else
#define WINDROW_EMULATED
#if VECTOR_BITS == 256
#include_next <immintrin.h>
#else
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/fma.h>
#endif
#include <math.h>
#include <stdint.h>

/* vpdpbusd: onto each sum four products of an unsigned and a signed byte, none of which saturates. */
static inline __m256i emulated_dots_of_half(__m256i sum, __m256i x, __m256i w) {
    const __m256i x_even = _mm256_and_si256(x, _mm256_set1_epi16(255));
    const __m256i w_even = _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8);
    const __m256i even = _mm256_madd_epi16(x_even, w_even);
    const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(x, 8), _mm256_srai_epi16(w, 8));
    return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
}

#if VECTOR_BITS == 256
#define __AVXVNNI__ 1
#define _mm256_dpbusd_avx_epi32 emulated_dots_of_half
#else
typedef union {
    simde__m512 floats;
    simde__m512i ints;
    float f[16];
    int32_t i[16];
    __m256i halves[2];
} Lanes;

#define EACH_LANE for (int lane = 0; lane < 16; lane++)
#define OF_EACH(name, given, type, in, out, made)                                                                      \
    static inline simde__m512##type name(given value) {                                                                \
        Lanes a, b;                                                                                                    \
        a.in = value;                                                                                                  \
        EACH_LANE made;                                                                                                \
        return b.out;                                                                                                  \
    }
#define FOLDED(name, result, given, in, part, step)                                                                    \
    static inline result name(given value) {                                                                           \
        Lanes a;                                                                                                       \
        a.in = value;                                                                                                  \
        result made = a.part[0];                                                                                       \
        for (int k = 1; k < 16; k++) {                                                                                 \
            result x = a.part[k];                                                                                      \
            made = step;                                                                                               \
        }                                                                                                              \
        return made;                                                                                                   \
    }

OF_EACH(emulated_to_floats, simde__m512i, , ints, floats, b.f[lane] = (float)a.i[lane])
/* Like the processor's: what is no number, or too large, gives the smallest. */
OF_EACH(emulated_to_ints, simde__m512, i, floats, ints, b.i[lane] = _mm_cvtss_si32(_mm_set_ss(a.f[lane])))
OF_EACH(emulated_fraction, simde__m512, , floats, floats, b.f[lane] = a.f[lane] - rintf(a.f[lane]))
FOLDED(emulated_sum, float, simde__m512, floats, f, made + x)
FOLDED(emulated_most, float, simde__m512, floats, f, made > x ? made : x)
FOLDED(emulated_least, float, simde__m512, floats, f, made < x ? made : x)
FOLDED(emulated_sum_of_ints, int32_t, simde__m512i, ints, i, made + x)

static inline simde__m512i emulated_dots(simde__m512i sum, simde__m512i x, simde__m512i w) {
    Lanes a, b, c;
    a.ints = sum, b.ints = x, c.ints = w;
    for (int k = 0; k < 2; k++) a.halves[k] = emulated_dots_of_half(a.halves[k], b.halves[k], c.halves[k]);
    return a.ints;
}

static inline simde__m512 emulated_permuted(simde__m512 value, int order) {
    Lanes a, b;
    a.floats = value;
    EACH_LANE b.f[lane] = a.f[(lane & ~3) + (order >> 2 * (lane & 3) & 3)];
    return b.floats;
}

static inline void emulated_scatter(void* to, simde__m512i places, simde__m512 values, int scale) {
    Lanes where, what;
    where.ints = places;
    what.floats = values;
    EACH_LANE*(float*)((char*)to + (int64_t)where.i[lane] * scale) = what.f[lane];
}

#define TIMES(sum, x, w) sum = emulated_dots(sum, x, w)
#undef _mm512_cvtepi32_ps
#define _mm512_cvtepi32_ps emulated_to_floats
#undef _mm512_cvtps_epi32
#define _mm512_cvtps_epi32 emulated_to_ints
#undef _mm512_reduce_ps
#define _mm512_reduce_ps(value, rounding) emulated_fraction(value)
#undef _mm512_reduce_add_ps
#define _mm512_reduce_add_ps emulated_sum
#undef _mm512_reduce_max_ps
#define _mm512_reduce_max_ps emulated_most
#undef _mm512_reduce_min_ps
#define _mm512_reduce_min_ps emulated_least
#undef _mm512_reduce_add_epi32
#define _mm512_reduce_add_epi32 emulated_sum_of_ints
#undef _mm512_shuffle_f32x4
#define _mm512_shuffle_f32x4 simde_mm512_shuffle_f32x4
#undef _mm512_shuffle_i32x4
#define _mm512_shuffle_i32x4 simde_mm512_shuffle_i32x4
#undef _mm512_permute_ps
#define _mm512_permute_ps emulated_permuted
#undef _mm512_i32scatter_ps
#define _mm512_i32scatter_ps emulated_scatter
#endif
#endif
