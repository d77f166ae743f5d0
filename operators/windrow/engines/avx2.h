/* What `encoder.c` needs of AVX-512, for processors that have AVX2 alone: each vector is a pair of halves.
 *
 * Bytes are multiplied by vpdpbusd where the processor has it for vectors of 256 bits (AVX-VNNI), else by vpmaddubsw,
 * which adds two products in 16 bits. So that these never saturate, the signed side is at most MOST = 63 then (255 x 63
 * x 2 = 32130): weights, keys and values have seven bits.
 */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __AVXVNNI__
#define MOST 127
#else
#define MOST 63
#endif
#define ABREAST 4 /* vectors of floats, or pairs of them, whose sums stay in registers together */
#define PAIRS 2

typedef struct {
    __m256 a, b;
} Floats;
typedef struct {
    __m256i a, b;
} Ints;

#define HALVES static inline __attribute__((always_inline))
#define ONE(name, type, made, op)                                                                                      \
    HALVES made name(type x) { return (made){op(x.a), op(x.b)}; }
#define TWO(name, type, op)                                                                                            \
    HALVES type name(type x, type y) { return (type){op(x.a, y.a), op(x.b, y.b)}; }
#define THREE(name, op)                                                                                                \
    HALVES Floats name(Floats x, Floats y, Floats z) { return (Floats){op(x.a, y.a, z.a), op(x.b, y.b, z.b)}; }
#define ALL(name, type, value, op)                                                                                     \
    HALVES type name(value x) { return (type){op(x), op(x)}; }

ONE(to_floats, Ints, Floats, _mm256_cvtepi32_ps)
ONE(to_ints, Floats, Ints, _mm256_cvtps_epi32)
TWO(add_floats, Floats, _mm256_add_ps)
TWO(sub_floats, Floats, _mm256_sub_ps)
TWO(mul_floats, Floats, _mm256_mul_ps)
TWO(div_floats, Floats, _mm256_div_ps)
TWO(least_floats, Floats, _mm256_min_ps)
TWO(most_floats, Floats, _mm256_max_ps)
TWO(and_floats, Floats, _mm256_and_ps)
TWO(low_floats, Floats, _mm256_unpacklo_ps)
TWO(high_floats, Floats, _mm256_unpackhi_ps)
TWO(add_ints, Ints, _mm256_add_epi32)
TWO(mul_ints, Ints, _mm256_mullo_epi32)
TWO(and_ints, Ints, _mm256_and_si256)
TWO(or_ints, Ints, _mm256_or_si256)
TWO(xor_ints, Ints, _mm256_xor_si256)
TWO(narrow_32, Ints, _mm256_packs_epi32)
TWO(narrow_16, Ints, _mm256_packs_epi16)
TWO(narrow_16_unsigned, Ints, _mm256_packus_epi16)
THREE(fmadd, _mm256_fmadd_ps)
THREE(fnmadd, _mm256_fnmadd_ps)
ALL(all_floats, Floats, float, _mm256_set1_ps)
ALL(all_ints, Ints, int32_t, _mm256_set1_epi32)
ALL(all_bytes, Ints, int8_t, _mm256_set1_epi8)

HALVES Floats load_floats(const float* x) { return (Floats){_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8)}; }
HALVES void store_floats(float* x, Floats y) { _mm256_storeu_ps(x, y.a), _mm256_storeu_ps(x + 8, y.b); }
HALVES Ints load_ints(const void* x) {
    return (Ints){_mm256_loadu_si256(x), _mm256_loadu_si256((const __m256i*)x + 1)};
}
HALVES void store_ints(void* x, Ints y) { _mm256_storeu_si256(x, y.a), _mm256_storeu_si256((__m256i*)x + 1, y.b); }

HALVES Floats magnitude(Floats x) {
    return and_floats(x, (Floats){_mm256_castsi256_ps(_mm256_set1_epi32(INT32_MAX)),
                                  _mm256_castsi256_ps(_mm256_set1_epi32(INT32_MAX))});
}
HALVES Floats low_pairs(Floats x, Floats y) {
    return (Floats){_mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(x.a), _mm256_castps_pd(y.a))),
                    _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(x.b), _mm256_castps_pd(y.b)))};
}
HALVES Floats high_pairs(Floats x, Floats y) {
    return (Floats){_mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(x.a), _mm256_castps_pd(y.a))),
                    _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(x.b), _mm256_castps_pd(y.b)))};
}

/* Swap halves (order 0x4E) or the quarters of each half (0xB1). */
HALVES Floats swap_floats(Floats x, int order) {
    if (order == 0x4E) return (Floats){x.b, x.a};
    return (Floats){_mm256_permute2f128_ps(x.a, x.a, 1), _mm256_permute2f128_ps(x.b, x.b, 1)};
}
HALVES Ints swap_ints(Ints x, int order) {
    if (order == 0x4E) return (Ints){x.b, x.a};
    return (Ints){_mm256_permute2x128_si256(x.a, x.a, 1), _mm256_permute2x128_si256(x.b, x.b, 1)};
}

#define FOLD(name, op)                                                                                                 \
    HALVES float name(Floats x) {                                                                                      \
        const __m256 half = _mm256_##op##_ps(x.a, x.b);                                                                \
        __m128 y = _mm_##op##_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));                        \
        y = _mm_##op##_ps(y, _mm_movehl_ps(y, y));                                                                     \
        return _mm_cvtss_f32(_mm_##op##_ss(y, _mm_movehdup_ps(y)));                                                    \
    }
FOLD(sum_of, add)
FOLD(most_of, max)
FOLD(least_of, min)
HALVES int32_t sum_of_ints(Ints x) {
    const __m256i half = _mm256_add_epi32(x.a, x.b);
    __m128i y = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    y = _mm_add_epi32(y, _mm_shuffle_epi32(y, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(y, _mm_shuffle_epi32(y, 0xB1)));
}

/* What is left of numbers when the nearest whole ones are taken away. */
HALVES Floats fraction(Floats x) {
    return sub_floats(x, (Floats){_mm256_round_ps(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                                  _mm256_round_ps(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)});
}
/* x times 2 to the power of y, whole numbers of at most 127; below -126 that is zero. */
HALVES Floats scaled(Floats x, Floats y) {
    const Ints whole = add_ints(to_ints(most_floats(y, all_floats(-127))), all_ints(127));
    return mul_floats(x, (Floats){_mm256_castsi256_ps(_mm256_slli_epi32(whole.a, 23)),
                                  _mm256_castsi256_ps(_mm256_slli_epi32(whole.b, 23))});
}
HALVES void scatter(float* to, Ints places, Floats values) {
    int32_t where[16];
    float what[16];
    store_ints(where, places), store_floats(what, values);
    for (int lane = 0; lane < 16; lane++) to[where[lane]] = what[lane];
}

HALVES Ints whole_part(Floats x) { return (Ints){_mm256_cvttps_epi32(x.a), _mm256_cvttps_epi32(x.b)}; }
/* 16 parts of 128 as numbers below one. */
HALVES Floats dither_of(const uint16_t* parts) {
    const __m256i x = _mm256_loadu_si256((const __m256i*)parts);
    const Ints wide = {_mm256_cvtepu16_epi32(_mm256_castsi256_si128(x)),
                       _mm256_cvtepu16_epi32(_mm256_extracti128_si256(x, 1))};
    return mul_floats(to_floats(wide), all_floats(1.0f / 128));
}

/* Onto each sum four products of an unsigned byte and one of at most MOST. */
HALVES __m256i dots_of_half(__m256i sum, __m256i x, __m256i w) {
#ifdef __AVXVNNI__
    return _mm256_dpbusd_avx_epi32(sum, x, w);
#else
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), _mm256_set1_epi16(1)));
#endif
}
HALVES Ints dots_of(Ints sum, Ints x, Ints w) {
    return (Ints){dots_of_half(sum.a, x.a, w.a), dots_of_half(sum.b, x.b, w.b)};
}

/* Of up to three rows, 16 outputs: six sums, which stay in registers. Weights of the next four inputs lie `step` on. */
HALVES void dots_of_rows(int rows, const uint8_t* x, ptrdiff_t stride, const int8_t* w, int step, ptrdiff_t depth,
                         Ints start, Ints* sums, int apart) {
    __m256i a[3], b[3];
#pragma GCC unroll 3
    for (int r = 0; r < rows; r++) a[r] = start.a, b[r] = start.b;
    for (ptrdiff_t k = 0; k < depth; k += 4, w += step) {
        const __m256i low = _mm256_loadu_si256((const __m256i*)w), high = _mm256_loadu_si256((const __m256i*)w + 1);
#pragma GCC unroll 3
        for (int r = 0; r < rows; r++) {
            int32_t four;
            __builtin_memcpy(&four, x + r * stride + k, 4);
            const __m256i given = _mm256_set1_epi32(four);
            a[r] = dots_of_half(a[r], given, low), b[r] = dots_of_half(b[r], given, high);
        }
    }
#pragma GCC unroll 3
    for (int r = 0; r < rows; r++) sums[r * apart] = (Ints){a[r], b[r]};
}

// clang-format off
#define DOTS(rows, vectors, x, stride, weights, depth, start, finish)                                                  \
    do {                                                                                                               \
        enum { rows_ = rows, vectors_ = vectors, first_ = rows_ < 3 ? rows_ : 3 };                                     \
        const ptrdiff_t stride_ = stride, depth_ = depth;                                                              \
        const uint8_t* x_ = (x);                                                                                       \
        const int8_t* w_ = (weights);                                                                                  \
        Ints sums_[6][4];                                                                                              \
        DOTS_OF(0, start) DOTS_OF(1, start) if (vectors_ > 2) { DOTS_OF(2, start) DOTS_OF(3, start) }                  \
        FINISH(0, finish) FINISH(1, finish) FINISH(2, finish) FINISH(3, finish) FINISH(4, finish) FINISH(5, finish)    \
    } while (0)
#define DOTS_OF(v, start)                                                                                              \
    dots_of_rows(first_, x_, stride_, w_ + 64 * v, 64 * vectors_, depth_, start(v), sums_[0] + v, 4);                  \
    if (rows_ > 3)                                                                                                     \
        dots_of_rows(rows_ - first_, x_ + 3 * stride_, stride_, w_ + 64 * v, 64 * vectors_, depth_, start(v),          \
                     sums_[3] + v, 4);
#define FINISH(r, finish)                                                                                              \
    if (r < rows_) finish(r, sums_[r][0], sums_[r][1], sums_[r][2], sums_[r][3]);
// clang-format on

#define __m512 Floats
#define __m512i Ints
#define __mmask16 Floats
#define _mm512_abs_ps magnitude
#define _mm512_add_epi32 add_ints
#define _mm512_add_ps add_floats
#define _mm512_and_si512 and_ints
#define _mm512_castpd_ps(x) x
#define _mm512_castps512_ps128(x) _mm256_castps256_ps128((x).a)
#define _mm512_castps_pd(x) x
#define _mm512_castsi512_si128(x) _mm256_castsi256_si128((x).a)
#define _mm512_cmp_ps_mask(x, y, how)                                                                                  \
    (Floats) { _mm256_cmp_ps((x).a, (y).a, how), _mm256_cmp_ps((x).b, (y).b, how) }
#define _mm512_cvtepi32_ps to_floats
#define _mm512_cvtps_epi32 to_ints
#define _mm512_div_ps div_floats
#define _mm512_dpbusd_epi32 dots_of
#define _mm512_extracti32x4_epi32(x, quarter) _mm256_extracti128_si256((quarter) < 2 ? (x).a : (x).b, (quarter) & 1)
#define _mm512_fmadd_ps fmadd
#define _mm512_fnmadd_ps fnmadd
#define _mm512_i32scatter_ps(to, places, values, scale) scatter(to, places, values)
#define _mm512_loadu_ps load_floats
#define _mm512_loadu_si512 load_ints
#define _mm512_maskz_div_ps(mask, x, y) and_floats(mask, div_floats(x, y))
#define _mm512_max_ps most_floats
#define _mm512_min_ps least_floats
#define _mm512_mul_ps mul_floats
#define _mm512_mullo_epi32 mul_ints
#define _mm512_or_si512 or_ints
#define _mm512_packs_epi16 narrow_16
#define _mm512_packs_epi32 narrow_32
#define _mm512_packus_epi16 narrow_16_unsigned
#define _mm512_permute_ps(x, order)                                                                                    \
    (Floats) { _mm256_permute_ps((x).a, order), _mm256_permute_ps((x).b, order) }
#define _mm512_reduce_add_epi32 sum_of_ints
#define _mm512_reduce_add_ps sum_of
#define _mm512_reduce_max_ps most_of
#define _mm512_reduce_min_ps least_of
#define _mm512_reduce_ps(x, how) fraction(x)
#define _mm512_scalef_ps scaled
#define _mm512_set1_epi32 all_ints
#define _mm512_set1_epi8 all_bytes
#define _mm512_set1_ps all_floats
#define _mm512_setr_epi32(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p)                                              \
    (Ints) { _mm256_setr_epi32(a, b, c, d, e, f, g, h), _mm256_setr_epi32(i, j, k, l, m, n, o, p) }
#define _mm512_setzero_ps() all_floats(0)
#define _mm512_setzero_si512() all_ints(0)
#define _mm512_shuffle_f32x4(x, same, order) swap_floats(x, order)
#define _mm512_shuffle_i32x4(x, same, order) swap_ints(x, order)
#define _mm512_slli_epi32(x, bits)                                                                                     \
    (Ints) { _mm256_slli_epi32((x).a, bits), _mm256_slli_epi32((x).b, bits) }
#define _mm512_storeu_ps store_floats
#define _mm512_storeu_si512 store_ints
#define _mm512_sub_ps sub_floats
#define _mm512_unpackhi_pd high_pairs
#define _mm512_unpackhi_ps high_floats
#define _mm512_unpacklo_pd low_pairs
#define _mm512_unpacklo_ps low_floats
#define _mm512_xor_si512 xor_ints
