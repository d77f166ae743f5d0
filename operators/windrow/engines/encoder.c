/* Post-norm Transformer encoders (BERT and its like) in eight-bit products, in the intrinsics of AVX-512 VNNI; with
 * VECTOR_BITS at 256 for processors that have AVX2 alone, to which `avx2.h` gives what these intrinsics do.
 *
 * Rows lie one after another, without padding. One call runs on one core; callers run one call a core. States
 * between layers, normalisation and softmax are fp32. What is multiplied is rounded as it comes: the weights by
 * output channel and group of inputs, states by group of a token's channels between their least and largest, queries
 * and keys by token and head, values by channel of a row, softmax's numerators, with an ordered dither, to 1/253 of the
 * largest. A row's outputs do not depend on its neighbours.
 *
 * Sources: vpdpbusd, Intel Intrinsics Guide; attention's rounding after Zhang et al. 2025, "SageAttention".
 */
#if VECTOR_BITS == 256
#include "avx2.h"
#else
#include <immintrin.h>
#define MOST 127  /* of a signed byte that is multiplied */
#define ABREAST 8 /* vectors of floats, or pairs of them, whose sums stay in registers together */
#define PAIRS 8
#endif
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ROWS 6             /* of states in registers: 6 x 4 accumulators, 4 of weights, some of states */
#define PANEL 64           /* outputs in registers: 4 vectors of 16 */
#define SHARED 64          /* keys whose shares are packed together */
#define BLOCK 96           /* rows of states that go through the feed-forward layers together: they stay in L2 */
#define LOG2_E 1.44269504f /* softmax is of base 2 here */
#define FIRSTS 16          /* first tokens that go through the last layer's attention together */
#define LANES 16           /* heads beside each other in one vector there */
#define INLINE static inline __attribute__((always_inline))

typedef struct {
    int32_t inputs, outputs, group;
    const int8_t* weights; /* [outputs / 64][inputs / 4][64][4] */
    const float* scales;   /* [inputs / group][outputs] */
    const float* sums;     /* [inputs / group][outputs]: of a group's weights, in their scale */
    const float* bias;     /* [outputs] */
    const float* ease;     /* [inputs]: multiplies the states before they are rounded */
} Product;

/* What the bytes of a group stand for: `zero` + byte * `worth`. */
typedef struct {
    float worth, zero;
} Scale;

typedef struct {
    const float *weight, *bias;
    float epsilon;
} Norm;

typedef struct {
    Product query, key, value, mixed, inner, outer;
    Norm attended, put_out; /* after attention, and after the feed-forward layers */
} Layer;

typedef struct {
    const float* words;  /* [vocabulary][hidden] */
    const float* places; /* [positions][hidden]: what is added to a token's row for where it stands, by kind of token */
    Norm embedded;
    const Layer* layers;
    int32_t count, heads;
    const float* last_key;   /* [hidden][hidden]: the last layer's in fp32, for first tokens alone */
    const float* last_value; /* [heads][hidden][size]: the same, turned */
} Encoder;

/* Dots of `rows` rows of unsigned bytes with a panel of signed ones, 32 or 64 outputs wide (`vectors` is 2 or 4); rows
 * and vectors are constants. The sums start from start(vector), stay in registers (arrays would not), and go to
 * finish(row, outputs 0 to 15, 16 to 31, 32 to 47, 48 to 63). 6 rows of 64 outputs need 10 loads for 24 products; 12 of
 * 32 would need 14, and took a tenth longer. */
#ifndef DOTS
// clang-format off
#define DOTS(rows, vectors, x, stride, weights, depth, start, finish)                                                  \
    do {                                                                                                               \
        enum { rows_ = rows, vectors_ = vectors };                                                                     \
        const ptrdiff_t stride_ = stride, depth_ = depth;                                                              \
        const uint8_t *x0_ = (x), *x3_ = x0_ + 3 * stride_;                                                            \
        const int8_t* w_ = (weights);                                                                                  \
        const __m512i s0_ = start(0), s1_ = start(1);                                                                  \
        const __m512i s2_ = vectors_ > 2 ? start(2) : s0_, s3_ = vectors_ > 2 ? start(3) : s0_;                        \
        __m512i a0 = s0_, b0 = s1_, c0 = s2_, d0 = s3_, a1 = s0_, b1 = s1_, c1 = s2_, d1 = s3_;                        \
        __m512i a2 = s0_, b2 = s1_, c2 = s2_, d2 = s3_, a3 = s0_, b3 = s1_, c3 = s2_, d3 = s3_;                        \
        __m512i a4 = s0_, b4 = s1_, c4 = s2_, d4 = s3_, a5 = s0_, b5 = s1_, c5 = s2_, d5 = s3_;                        \
        for (ptrdiff_t k_ = 0; k_ < depth_; k_ += 4, w_ += 64 * vectors_) {                                            \
            const __m512i w0 = _mm512_loadu_si512(w_), w1 = _mm512_loadu_si512(w_ + 64);                               \
            const __m512i w2 = vectors_ > 2 ? _mm512_loadu_si512(w_ + 128) : w0;                                       \
            const __m512i w3 = vectors_ > 2 ? _mm512_loadu_si512(w_ + 192) : w0;                                       \
            STEP(0, x0_, 0) STEP(1, x0_, 1) STEP(2, x0_, 2) STEP(3, x3_, 0) STEP(4, x3_, 1) STEP(5, x3_, 2)            \
            x0_ += 4, x3_ += 4;                                                                                        \
        }                                                                                                              \
        FINISH(0, finish) FINISH(1, finish) FINISH(2, finish) FINISH(3, finish) FINISH(4, finish) FINISH(5, finish)    \
    } while (0)
// clang-format on
/* In place: compilers, left to themselves, copy the sums around or keep them in memory. */
#ifndef TIMES
#define TIMES(sum, x, w) __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w))
#endif
#define STEP(r, base, times)                                                                                           \
    if (r < rows_) {                                                                                                   \
        const __m512i v = broadcast(base + times * stride_);                                                           \
        TIMES(a##r, v, w0);                                                                                            \
        TIMES(b##r, v, w1);                                                                                            \
        if (vectors_ > 2) {                                                                                            \
            TIMES(c##r, v, w2);                                                                                        \
            TIMES(d##r, v, w3);                                                                                        \
        }                                                                                                              \
    }
#define FINISH(r, finish)                                                                                              \
    if (r < rows_) finish(r, a##r, b##r, c##r, d##r);
#endif
#define NOTHING(v) _mm512_setzero_si512()

INLINE __m512i broadcast(const uint8_t* four) {
    int32_t bits;
    memcpy(&bits, four, 4);
    return _mm512_set1_epi32(bits);
}

/* Of each of four vectors: x times the normal distribution's share below x; off by 5e-4 at most (a minimax fit on
 * [-3.7, 3.7]), where a step of the bytes that follow is some 1e-2. */
INLINE void gelu(__m512 x[4]) {
    static const float c[6] = {3.96475085e-01f,  -6.25877135e-02f, 7.84869578e-03f,
                               -6.17501505e-04f, 2.68887386e-05f,  -4.89972900e-07f};
    __m512 t[4], square[4], p[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        t[k] = _mm512_max_ps(_mm512_min_ps(x[k], _mm512_set1_ps(3.7f)), _mm512_set1_ps(-3.7f));
        square[k] = _mm512_mul_ps(t[k], t[k]);
        p[k] = _mm512_set1_ps(c[5]);
    }
#pragma GCC unroll 5
    for (int i = 4; i >= 0; i--)
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) p[k] = _mm512_fmadd_ps(p[k], square[k], _mm512_set1_ps(c[i]));
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) x[k] = _mm512_mul_ps(x[k], _mm512_fmadd_ps(p[k], t[k], _mm512_set1_ps(0.5f)));
}

/* A group's share of 16 outputs, on top of `more`. */
INLINE __m512 in_scale(__m512i dots, const Scale* of, __m512 scales, __m512 sums, __m512 more) {
    more = _mm512_fmadd_ps(_mm512_set1_ps(of->zero), sums, more);
    return _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(dots), _mm512_set1_ps(of->worth)), scales, more);
}

/* Kernels are made for each number of rows: with a constant, the sums have registers of their own. */
// clang-format off
#define CASE(n, call) case n: call(n); break;
#define EACH(call)                                                                                                     \
    switch (rows) {                                                                                                    \
        CASE(1, call) CASE(2, call) CASE(3, call) CASE(4, call) CASE(5, call) CASE(6, call)                            \
    }
// clang-format on

#define ADD_VECTOR(r, v, dots)                                                                                         \
    _mm512_storeu_ps(out + r * stride + 16 * v,                                                                        \
                     in_scale(dots, x_scales + r * groups, _mm512_loadu_ps(scales + 16 * v),                           \
                              _mm512_loadu_ps(sums + 16 * v), _mm512_loadu_ps(from + r * from_stride + 16 * v)))
#define ADD(r, a, b, c, d)                                                                                             \
    do {                                                                                                               \
        ADD_VECTOR(r, 0, a);                                                                                           \
        ADD_VECTOR(r, 1, b);                                                                                           \
        ADD_VECTOR(r, 2, c);                                                                                           \
        ADD_VECTOR(r, 3, d);                                                                                           \
    } while (0)
#define TILE(rows) DOTS(rows, 4, x, p->inputs, w, p->group, NOTHING, ADD)

/* Group g's part of outputs [first, first + PANEL) of up to 6 rows, on top of the bias or of the groups before. */
static void tile(int rows, const Product* p, int first, int g, const uint8_t* x, const Scale* x_scales, float* out,
                 ptrdiff_t stride) {
    const int groups = p->inputs / p->group;
    const ptrdiff_t place = (ptrdiff_t)g * p->outputs + first, from_stride = g ? stride : 0;
    const int8_t* w = p->weights + (ptrdiff_t)first * p->inputs + (ptrdiff_t)g * p->group * PANEL;
    const float *scales = p->scales + place, *sums = p->sums + place, *from = g ? out : p->bias + first;
    EACH(TILE)
}

/* Outputs [first, last) of all rows; the first lies at `out`. One group of one panel stays in L1 for all rows. */
static void multiply(const Product* p, int rows, const uint8_t* x, const Scale* scales, int first, int last, float* out,
                     ptrdiff_t stride) {
    const int groups = p->inputs / p->group;
    for (int n = first; n < last; n += PANEL)
        for (int g = 0; g < groups; g++)
            for (int r = 0; r < rows; r += ROWS)
                tile(rows - r < ROWS ? rows - r : ROWS, p, n, g, x + (ptrdiff_t)r * p->inputs + g * p->group,
                     scales + (ptrdiff_t)r * groups + g, out + r * stride + n - first, stride);
}

/* Numbers in steps, as signed bytes: four rows of 16 become four vectors of 16 bytes, each of four numbers a row. */
INLINE __m512i signed_bytes(__m512 a, __m512 b, __m512 c, __m512 d) {
    return _mm512_packs_epi16(_mm512_packs_epi32(_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b)),
                              _mm512_packs_epi32(_mm512_cvtps_epi32(c), _mm512_cvtps_epi32(d)));
}

/* The same bytes, row after row. */
INLINE __m512i by_row(__m512i bytes) {
#if VECTOR_BITS == 256
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i x = _mm256_permutevar8x32_epi32(bytes.a, order), y = _mm256_permutevar8x32_epi32(bytes.b, order);
    const __m256i even = _mm256_unpacklo_epi64(x, y), odd = _mm256_unpackhi_epi64(x, y);
    return (__m512i){_mm256_permute2x128_si256(even, odd, 0x20), _mm256_permute2x128_si256(even, odd, 0x31)};
#else
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(order, bytes);
#endif
}

/* The least and the largest of some numbers, or zero. */
typedef struct {
    float least, most;
} Range;

INLINE Range range_of(const float* x, const float* ease, int count) {
    __m512 low = _mm512_setzero_ps(), high = low;
    for (int i = 0; i < count; i += 16) {
        const __m512 v = _mm512_mul_ps(_mm512_loadu_ps(x + i), _mm512_loadu_ps(ease + i));
        low = _mm512_min_ps(low, v), high = _mm512_max_ps(high, v);
    }
    return (Range){_mm512_reduce_min_ps(low), _mm512_reduce_max_ps(high)};
}

/* The same of GELU's values, which are written over the numbers. */
INLINE Range activated(float* x, const float* ease, int count) {
    __m512 low = _mm512_setzero_ps(), high = low;
    for (int i = 0; i < count; i += 64) {
        __m512 v[4];
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) v[k] = _mm512_loadu_ps(x + i + 16 * k);
        gelu(v);
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
            v[k] = _mm512_mul_ps(v[k], _mm512_loadu_ps(ease + i + 16 * k));
            low = _mm512_min_ps(low, v[k]), high = _mm512_max_ps(high, v[k]);
            _mm512_storeu_ps(x + i + 16 * k, v[k]);
        }
    }
    return (Range){_mm512_reduce_min_ps(low), _mm512_reduce_max_ps(high)};
}

/* Round `count` numbers, a multiple of 64, to bytes within their range. */
INLINE Scale to_bytes(const float* x, const float* ease, int count, Range of, uint8_t* out) {
    const float span = of.most - of.least, per_unit = span > 1e-30f ? 255 / span : 0;
    const float zero = rintf(-of.least * per_unit);
    const __m512 steps = _mm512_set1_ps(per_unit), add = _mm512_set1_ps(zero);
    for (int i = 0; i < count; i += 64) {
        __m512i v[4];
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
            __m512 y = _mm512_loadu_ps(x + i + 16 * k);
            if (ease) y = _mm512_mul_ps(y, _mm512_loadu_ps(ease + i + 16 * k));
            v[k] = _mm512_cvtps_epi32(_mm512_fmadd_ps(y, steps, add));
        }
        const __m512i low = _mm512_packs_epi32(v[0], v[1]), high = _mm512_packs_epi32(v[2], v[3]);
        _mm512_storeu_si512(out + i, by_row(_mm512_packus_epi16(low, high)));
    }
    return (Scale){span / 255, -zero * (span / 255)};
}

/* Of four rows a, b, c, d, whose largest numbers become `largest` steps: what one step is worth, and steps per unit, as
 * a b c d four times over. */
typedef struct {
    __m512 worth, steps;
} Four;

INLINE Four steps_of_four(const float* const x[4], int size, float largest) {
    __m512 m[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        m[k] = _mm512_abs_ps(_mm512_loadu_ps(x[k]));
        for (int d = 16; d < size; d += 16) m[k] = _mm512_max_ps(m[k], _mm512_abs_ps(_mm512_loadu_ps(x[k] + d)));
    }
    const __m512 ab = _mm512_max_ps(_mm512_unpacklo_ps(m[0], m[1]), _mm512_unpackhi_ps(m[0], m[1]));
    const __m512 cd = _mm512_max_ps(_mm512_unpacklo_ps(m[2], m[3]), _mm512_unpackhi_ps(m[2], m[3]));
    __m512 most = _mm512_max_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd))),
                                _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd))));
    most = _mm512_max_ps(most, _mm512_shuffle_f32x4(most, most, 0x4E));
    most = _mm512_max_ps(most, _mm512_shuffle_f32x4(most, most, 0xB1));
    const __mmask16 some = _mm512_cmp_ps_mask(most, _mm512_setzero_ps(), _CMP_GT_OQ);
    return (Four){_mm512_mul_ps(most, _mm512_set1_ps(1 / largest)),
                  _mm512_maskz_div_ps(some, _mm512_set1_ps(largest), most)};
}

#define IN_STEPS(k) _mm512_mul_ps(_mm512_loadu_ps(x[k] + d), _mm512_permute_ps(f.steps, 0x55 * k))

/* Rows go through each step together, so that one's sum or largest is not waited for while others can go on. */
#define TOGETHER 4
#define BY_FEW(rows, start, here)                                                                                      \
    for (int start = 0, here; here = rows - start < TOGETHER ? rows - start : TOGETHER, start < rows; start += TOGETHER)

static void round_states(const Product* p, int rows, const float* x, uint8_t* out, Scale* scales) {
    const int groups = p->inputs / p->group;
    for (int g = 0; g < groups; g++) BY_FEW(rows, start, here) {
            const ptrdiff_t first = (ptrdiff_t)start * p->inputs + g * p->group;
            const float* ease = p->ease + g * p->group;
            Range of[TOGETHER];
            for (int r = 0; r < here; r++) of[r] = range_of(x + first + r * p->inputs, ease, p->group);
            for (int r = 0; r < here; r++)
                scales[(start + r) * groups + g] =
                    to_bytes(x + first + r * p->inputs, ease, p->group, of[r], out + first + r * p->inputs);
        }
}

/* The same for GELU's values of one group of a product's inputs, [rows][group]; they are written over the numbers. */
static void activate_and_round(const Product* p, int g, int rows, float* x, uint8_t* out, Scale* scales) {
    const int groups = p->inputs / p->group, width = p->group;
    BY_FEW(rows, start, here) {
        Range of[TOGETHER];
        for (int r = 0; r < here; r++)
            of[r] = activated(x + (ptrdiff_t)(start + r) * width, p->ease + g * width, width);
        for (int r = 0; r < here; r++)
            scales[(start + r) * groups + g] = to_bytes(x + (ptrdiff_t)(start + r) * width, NULL, width, of[r],
                                                        out + (ptrdiff_t)(start + r) * p->inputs + g * width);
    }
}

INLINE float mean_of_sum(int size, float* state, const float* more) {
    __m512 sum = _mm512_setzero_ps();
    for (int i = 0; i < size; i += 16) {
        const __m512 v = _mm512_add_ps(_mm512_loadu_ps(state + i), _mm512_loadu_ps(more + i));
        _mm512_storeu_ps(state + i, v);
        sum = _mm512_add_ps(sum, v);
    }
    return _mm512_reduce_add_ps(sum) / size;
}

INLINE float variance(int size, const float* state, float mean) {
    __m512 squares = _mm512_setzero_ps();
    for (int i = 0; i < size; i += 16) {
        const __m512 v = _mm512_sub_ps(_mm512_loadu_ps(state + i), _mm512_set1_ps(mean));
        squares = _mm512_fmadd_ps(v, v, squares);
    }
    return _mm512_reduce_add_ps(squares) / size;
}

/* state = normalised(state + more) for all rows; these are rounded for product `next`, if any, while they are in L1. */
static void add_normalise_and_round(int rows, int size, float* states, const float* more, const Norm* norm,
                                    const Product* next, uint8_t* bytes, Scale* steps) {
    BY_FEW(rows, start, here) {
        const ptrdiff_t first = (ptrdiff_t)start * size;
        float means[TOGETHER], variances[TOGETHER];
        for (int r = 0; r < here; r++) means[r] = mean_of_sum(size, states + first + r * size, more + first + r * size);
        for (int r = 0; r < here; r++) variances[r] = variance(size, states + first + r * size, means[r]);
        for (int r = 0; r < here; r++) {
            const __m512 mean = _mm512_set1_ps(means[r]),
                         spread = _mm512_set1_ps(1 / sqrtf(variances[r] + norm->epsilon));
            for (int i = 0; i < size; i += 16) {
                float* place = states + first + r * size + i;
                const __m512 v = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(place), mean), spread);
                _mm512_storeu_ps(
                    place, _mm512_fmadd_ps(v, _mm512_loadu_ps(norm->weight + i), _mm512_loadu_ps(norm->bias + i)));
            }
        }
        if (next)
            round_states(next, here, states + first, bytes + first, steps + (ptrdiff_t)start * (size / next->group));
    }
}

/* What 64 neighbouring shares are rounded up by, in 1/128: each by another part (ordered dither). Were all rounded to
 * the nearest, many small ones would all become nothing, and states would be off twice as much for it. */
static const uint16_t DITHER[64] __attribute__((aligned(64))) = {
    0,  79,  30,  109, 60, 11, 90,  41,  120, 71, 23, 102, 53, 4,  83,  34,  113, 64, 15, 95, 46,  125,
    76, 27,  106, 57,  8,  87, 39,  118, 69,  20, 99, 50,  1,  80, 31,  111, 62,  13, 92, 43, 122, 73,
    24, 103, 54,  6,   85, 36, 115, 66,  17,  96, 47, 126, 78, 29, 108, 59,  10,  89, 40, 119};

#if VECTOR_BITS != 256
/* 32415 times 2 to the power of -i / 32 */
static const int16_t POWERS[32] __attribute__((aligned(64))) = {
    32415, 31720, 31041, 30376, 29725, 29088, 28464, 27855, 27258, 26674, 26102, 25543, 24995, 24460, 23936, 23423,
    22921, 22430, 21949, 21479, 21019, 20568, 20127, 19696, 19274, 18861, 18457, 18061, 17674, 17296, 16925, 16562};

/* 253 times 2 to the power of -x / 32 in words, rounded by `dither`; what is far below, or no number, gives zero. */
INLINE __m512i powers_of_two(__m512i x, const uint16_t* dither) {
    const __m512i part = _mm512_permutexvar_epi16(x, _mm512_load_si512(POWERS));
    const __m512i whole = _mm512_srlv_epi16(part, _mm512_srli_epi16(x, 5));
    return _mm512_srli_epi16(_mm512_add_epi16(whole, _mm512_load_si512(dither)), 7);
}

/* Shares of 64 tokens: 253 times 2 to the power of what a score, times `by`, lacks of `from`, in 1 / 32. */
INLINE __m512i shares_of(const float* scores, __m512 by, __m512 from) {
    __m512i x[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) x[i] = _mm512_cvtps_epi32(_mm512_fnmadd_ps(_mm512_loadu_ps(scores + 16 * i), by, from));
    return _mm512_packus_epi16(powers_of_two(_mm512_packs_epi32(x[0], x[1]), DITHER),
                               powers_of_two(_mm512_packs_epi32(x[2], x[3]), DITHER + 32));
}
#else
/* The same without shifts of 16 bits that differ: in fp32, off by 1e-4 of its value before it is rounded. */
INLINE __m512i shares_of(const float* scores, __m512 by, __m512 from) {
    __m512i x[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const __m512 lack = _mm512_fnmadd_ps(_mm512_loadu_ps(scores + 16 * i), by, from);
        /* what is no number, or far below, gives zero */
        const __m512 y = _mm512_mul_ps(_mm512_min_ps(lack, _mm512_set1_ps(640)), _mm512_set1_ps(-1.0f / 32));
        const __m512 f = _mm512_reduce_ps(y, 0);
        __m512 p = _mm512_fmadd_ps(f, _mm512_set1_ps(5.517166e-2f * 253), _mm512_set1_ps(2.4261112e-1f * 253));
        p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.9326099e-1f * 253));
        p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.9992807e-1f * 253));
        const __m512 raised = _mm512_add_ps(_mm512_scalef_ps(p, _mm512_sub_ps(y, f)), dither_of(DITHER + 16 * i));
        x[i] = whole_part(raised);
    }
    return _mm512_packus_epi16(_mm512_packs_epi32(x[0], x[1]), _mm512_packs_epi32(x[2], x[3]));
}
#endif

/* What attention needs of one head; `room` is the longest row's tokens, rounded up to SHARED. */
typedef struct {
    float *query, *key, *value; /* [tokens][width]: of one head, or of two whose size is no multiple of PANEL */
    uint8_t* asked;             /* [room][size] */
    float* asked_steps;         /* [room] */
    int8_t* keys;               /* [room / 64][size / 4][64][4] */
    int32_t* offsets;           /* [room] */
    float *steps, *bar;         /* [room]: what a key's step is worth, and what keeps out what is no key */
    int8_t* values;             /* [size / 64][room / 4][64][4], or [size / 32][room / 4][32][4] */
    float* value_steps;         /* [size] */
    float* scores;              /* [ROWS][room] */
    uint8_t* shares;            /* [ROWS][room] */
} Head;

static void pack_keys(const Head* h, const float* key, ptrdiff_t stride, int tokens, int room, int size) {
    for (int t = 0; t < tokens; t += 4) {
        const float* x[4];
        for (int k = 0; k < 4; k++) x[k] = key + (t + k < tokens ? t + k : tokens - 1) * stride;
        const Four f = steps_of_four(x, size, MOST);
        int8_t* to = h->keys + (ptrdiff_t)(t / PANEL) * size * PANEL + t % PANEL * 4;
        __m512i sums = _mm512_setzero_si512();
        for (int d = 0; d < size; d += 16) {
            const __m512i bytes = signed_bytes(IN_STEPS(0), IN_STEPS(1), IN_STEPS(2), IN_STEPS(3));
            sums = _mm512_dpbusd_epi32(sums, _mm512_set1_epi8(1), bytes);
            _mm_storeu_si128((__m128i*)(to + d * PANEL), _mm512_castsi512_si128(bytes));
            _mm_storeu_si128((__m128i*)(to + (d + 4) * PANEL), _mm512_extracti32x4_epi32(bytes, 1));
            _mm_storeu_si128((__m128i*)(to + (d + 8) * PANEL), _mm512_extracti32x4_epi32(bytes, 2));
            _mm_storeu_si128((__m128i*)(to + (d + 12) * PANEL), _mm512_extracti32x4_epi32(bytes, 3));
        }
        sums = _mm512_add_epi32(sums, _mm512_shuffle_i32x4(sums, sums, 0x4E));
        sums = _mm512_add_epi32(sums, _mm512_shuffle_i32x4(sums, sums, 0xB1));
        _mm_storeu_si128((__m128i*)(h->offsets + t),
                         _mm512_castsi512_si128(_mm512_mullo_epi32(sums, _mm512_set1_epi32(-128))));
        _mm_storeu_ps(h->steps + t, _mm512_castps512_ps128(f.worth));
        _mm_storeu_ps(h->bar + t, _mm_setzero_ps());
    }
    for (int t = tokens; t < room; t++) h->steps[t] = 0, h->bar[t] = -1e30f;
}

/* Round a row's queries into h->asked, 128 for zero. */
static void round_queries(const Head* h, const float* query, ptrdiff_t stride, int tokens, int size) {
    for (int t = 0; t < tokens; t += 4) {
        const float* x[4];
        for (int k = 0; k < 4; k++) x[k] = query + (t + k < tokens ? t + k : tokens - 1) * stride;
        const Four f = steps_of_four(x, size, 127);
        uint8_t* to = h->asked + (ptrdiff_t)t * size;
        for (int d = 0; d < size; d += 16) {
            const __m512i whole = signed_bytes(IN_STEPS(0), IN_STEPS(1), IN_STEPS(2), IN_STEPS(3));
            const __m512i bytes = by_row(_mm512_xor_si512(whole, _mm512_set1_epi8(-128)));
            _mm_storeu_si128((__m128i*)(to + d), _mm512_castsi512_si128(bytes));
            _mm_storeu_si128((__m128i*)(to + size + d), _mm512_extracti32x4_epi32(bytes, 1));
            _mm_storeu_si128((__m128i*)(to + 2 * size + d), _mm512_extracti32x4_epi32(bytes, 2));
            _mm_storeu_si128((__m128i*)(to + 3 * size + d), _mm512_extracti32x4_epi32(bytes, 3));
        }
        _mm_storeu_ps(h->asked_steps + t, _mm512_castps512_ps128(f.worth));
    }
}

static void pack_values(const Head* h, const float* value, ptrdiff_t stride, int tokens, int room, int size) {
    const int wide = size % PANEL ? PANEL / 2 : PANEL;
    for (int d = 0; d < size; d += 16) {
        __m512 most = _mm512_setzero_ps();
        for (int t = 0; t < tokens; t++)
            most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_loadu_ps(value + t * stride + d)));
        const __mmask16 some = _mm512_cmp_ps_mask(most, _mm512_setzero_ps(), _CMP_GT_OQ);
        const __m512 steps = _mm512_maskz_div_ps(some, _mm512_set1_ps(MOST), most);
        _mm512_storeu_ps(h->value_steps + d, _mm512_mul_ps(most, _mm512_set1_ps(1.0f / MOST)));
        int8_t* to = h->values + (ptrdiff_t)(d / wide) * room * wide + d % wide * 4;
        for (int t = 0; t < room; t += 4) {
            __m512i four = _mm512_setzero_si512();
#pragma GCC unroll 4
            for (int i = 3; i >= 0; i--) {
                four = _mm512_slli_epi32(four, 8);
                if (t + i < tokens) {
                    const __m512 v = _mm512_loadu_ps(value + (t + i) * stride + d);
                    const __m512i byte = _mm512_cvtps_epi32(_mm512_mul_ps(v, steps));
                    four = _mm512_or_si512(four, _mm512_and_si512(byte, _mm512_set1_epi32(255)));
                }
            }
            /* packing shares puts four of 16 tokens beside four of each of the next three 16 */
            const int block = t / SHARED * SHARED, quad = t % SHARED / 4;
            _mm512_storeu_si512(to + (ptrdiff_t)(block + (quad % 4 * 4 + quad / 4) * 4) * wide, four);
        }
    }
}

#define OFFSETS(v) _mm512_loadu_si512(h->offsets + n + 16 * v)
#define SCORE_VECTOR(v, dots)                                                                                          \
    _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), _mm512_loadu_ps(h->steps + n + 16 * v),                                  \
                    _mm512_loadu_ps(h->bar + n + 16 * v))
#define SCORE(r, a, b, c, d)                                                                                           \
    do {                                                                                                               \
        float* place_ = h->scores + r * room + n;                                                                      \
        const __m512 a_ = SCORE_VECTOR(0, a), b_ = SCORE_VECTOR(1, b), c_ = SCORE_VECTOR(2, c),                        \
                     d_ = SCORE_VECTOR(3, d);                                                                          \
        _mm512_storeu_ps(place_, a_);                                                                                  \
        _mm512_storeu_ps(place_ + 16, b_);                                                                             \
        _mm512_storeu_ps(place_ + 32, c_);                                                                             \
        _mm512_storeu_ps(place_ + 48, d_);                                                                             \
        most[r] = _mm512_max_ps(most[r], _mm512_max_ps(_mm512_max_ps(a_, b_), _mm512_max_ps(c_, d_)));                 \
    } while (0)
#define SCORES(rows)                                                                                                   \
    for (int n = 0; n < room; n += PANEL)                                                                              \
        DOTS(rows, 4, asked, size, h->keys + (ptrdiff_t)n * size, size, OFFSETS, SCORE);

#define MIX_VECTOR(r, v, dots)                                                                                         \
    _mm512_storeu_ps(                                                                                                  \
        out + r * stride + d + 16 * v,                                                                                 \
        _mm512_mul_ps(_mm512_cvtepi32_ps(dots),                                                                        \
                      _mm512_mul_ps(_mm512_set1_ps(parts[r]), _mm512_loadu_ps(h->value_steps + d + 16 * v))))
#define MIX_TWO(r, a, b, c_, d_)                                                                                       \
    do {                                                                                                               \
        MIX_VECTOR(r, 0, a);                                                                                           \
        MIX_VECTOR(r, 1, b);                                                                                           \
    } while (0)
#define MIX_FOUR(r, a, b, c_, d_)                                                                                      \
    do {                                                                                                               \
        MIX_TWO(r, a, b, c_, d_);                                                                                      \
        MIX_VECTOR(r, 2, c_);                                                                                          \
        MIX_VECTOR(r, 3, d_);                                                                                          \
    } while (0)
#define MIXES_TWO(rows)                                                                                                \
    for (int d = 0; d < size; d += PANEL / 2)                                                                          \
        DOTS(rows, 2, h->shares, room, h->values + (ptrdiff_t)d * room, room, NOTHING, MIX_TWO);
#define MIXES_FOUR(rows)                                                                                               \
    for (int d = 0; d < size; d += PANEL)                                                                              \
        DOTS(rows, 4, h->shares, room, h->values + (ptrdiff_t)d * room, room, NOTHING, MIX_FOUR);

/* Up to 6 rounded queries of a head, at `asked`, mix the values of their row. */
static void attend(int rows, const Head* h, const uint8_t* asked, const float* asked_steps, float scale, int room,
                   int size, float* out, ptrdiff_t stride) {
    float parts[ROWS], worth[ROWS], top[ROWS];
    __m512 most[ROWS];
    __m512i sums[ROWS];
    for (int r = 0; r < ROWS; r++) most[r] = _mm512_set1_ps(-1e30f);
    EACH(SCORES)
    /* a query of zeros has equal scores, and those beyond the row stay far below */
    for (int r = 0; r < rows; r++) {
        worth[r] = fmaxf(32 * scale * asked_steps[r], 1e-20f);
        top[r] = _mm512_reduce_max_ps(most[r]) * worth[r];
    }
    for (int r = 0; r < rows; r++) {
        const float* scores = h->scores + r * room;
        const __m512 by = _mm512_set1_ps(worth[r]), from = _mm512_set1_ps(top[r]);
        __m512i sum = _mm512_setzero_si512();
        for (int n = 0; n < room; n += SHARED) {
            const __m512i packed = shares_of(scores + n, by, from);
            sum = _mm512_dpbusd_epi32(sum, packed, _mm512_set1_epi8(1));
            _mm512_storeu_si512(h->shares + r * room + n, packed);
        }
        sums[r] = sum;
    }
    for (int r = 0; r < rows; r++) parts[r] = 1 / (float)_mm512_reduce_add_epi32(sums[r]);
    if (size % PANEL) {
        EACH(MIXES_TWO)
    } else {
        EACH(MIXES_FOUR)
    }
}

static void* cut(uint8_t** from, size_t bytes) {
    void* start = *from;
    *from += (bytes + 63) / 64 * 64;
    return start;
}

/* What one call needs beside the states. */
typedef struct {
    uint8_t* bytes;       /* [tokens][hidden]: the states, rounded */
    Scale* steps;         /* [tokens][groups] */
    float* firsts;        /* [rows][hidden]: the states of first tokens, and these rounded */
    uint8_t* first_bytes; /* [rows][hidden] */
    Scale* first_steps;   /* [rows][groups] */
    float* queries;       /* [rows][hidden]: of first tokens */
    float* wanted;        /* [FIRSTS][hidden][LANES]: what a head looks for, in the states themselves */
    float* parts;         /* [longest][LANES]: a head's share of each token */
    float* seen;          /* [FIRSTS][LANES][hidden]: the states as a head mixes them */
    float* mixed;         /* [tokens][hidden]: what attention made */
    uint8_t* block_bytes; /* [BLOCK][hidden] */
    Scale* block_steps;   /* [BLOCK][groups] */
    float* put_out;       /* [BLOCK][hidden] */
    float* raw;           /* [BLOCK][group of the inner states] */
    uint8_t* inner_bytes; /* [BLOCK][inner] */
    Scale* inner_steps;   /* [BLOCK][groups of the inner states] */
    Head head;
} Scratch;

/* Channels of a head, or of two beside each other: a multiple of PANEL. */
static int side_by_side(int size) { return size % PANEL ? 2 * size : size; }

/* Lay out scratch memory from `start`, which lies on 64 bytes; return its end. */
static uint8_t* lay_out(Scratch* s, const Encoder* e, size_t tokens, size_t rows, size_t longest, uint8_t* start) {
    const Layer* l = e->layers;
    const size_t hidden = l->query.inputs, groups = hidden / l->query.group, size = hidden / e->heads;
    const size_t inner = l->outer.inputs, width = l->outer.group, room = (longest + SHARED - 1) / SHARED * SHARED;
    s->bytes = cut(&start, tokens * hidden);
    s->steps = cut(&start, tokens * groups * sizeof(Scale));
    s->firsts = cut(&start, rows * hidden * sizeof(float));
    s->first_bytes = cut(&start, rows * hidden);
    s->first_steps = cut(&start, rows * groups * sizeof(Scale));
    s->queries = cut(&start, rows * hidden * sizeof(float));
    s->wanted = cut(&start, FIRSTS * hidden * LANES * sizeof(float));
    s->parts = cut(&start, (longest + 8) * LANES * sizeof(float));
    s->seen = cut(&start, FIRSTS * hidden * LANES * sizeof(float));
    s->mixed = cut(&start, tokens * hidden * sizeof(float));
    s->block_bytes = cut(&start, BLOCK * hidden);
    s->block_steps = cut(&start, BLOCK * groups * sizeof(Scale));
    s->put_out = cut(&start, BLOCK * hidden * sizeof(float));
    s->raw = cut(&start, BLOCK * width * sizeof(float));
    s->inner_bytes = cut(&start, BLOCK * inner);
    s->inner_steps = cut(&start, BLOCK * (inner / width) * sizeof(Scale));
    s->head.query = cut(&start, tokens * side_by_side(size) * sizeof(float));
    s->head.key = cut(&start, tokens * side_by_side(size) * sizeof(float));
    s->head.value = cut(&start, tokens * side_by_side(size) * sizeof(float));
    s->head.asked = cut(&start, room * size);
    s->head.asked_steps = cut(&start, room * sizeof(float));
    s->head.keys = cut(&start, room * size);
    s->head.offsets = cut(&start, room * sizeof(int32_t));
    s->head.steps = cut(&start, room * sizeof(float));
    s->head.bar = cut(&start, room * sizeof(float));
    s->head.values = cut(&start, room * size);
    s->head.value_steps = cut(&start, size * sizeof(float));
    s->head.scores = cut(&start, ROWS * room * sizeof(float));
    s->head.shares = cut(&start, ROWS * room);
    return start;
}

static void attend_all(const Scratch* s, const Layer* l, int heads, int rows, const int32_t* bounds) {
    const int hidden = l->query.inputs, size = hidden / heads, tokens = bounds[rows];
    const float scale = LOG2_E / sqrtf((float)size);
    const Head* h = &s->head;
    const int wide = side_by_side(size);
    for (int d = 0; d < hidden; d += wide) {
        multiply(&l->query, tokens, s->bytes, s->steps, d, d + wide, h->query, wide);
        multiply(&l->key, tokens, s->bytes, s->steps, d, d + wide, h->key, wide);
        multiply(&l->value, tokens, s->bytes, s->steps, d, d + wide, h->value, wide);
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < wide; c += size) {
                const int here = bounds[r + 1] - bounds[r], room = (here + SHARED - 1) / SHARED * SHARED;
                const ptrdiff_t start = (ptrdiff_t)bounds[r] * wide + c;
                round_queries(h, h->query + start, wide, here, size);
                pack_keys(h, h->key + start, wide, here, room, size);
                pack_values(h, h->value + start, wide, here, room, size);
                for (int q = 0; q < here; q += ROWS)
                    attend(here - q < ROWS ? here - q : ROWS, h, h->asked + (ptrdiff_t)q * size, h->asked_steps + q,
                           scale, room, size, s->mixed + (ptrdiff_t)(bounds[r] + q) * hidden + d + c, hidden);
            }
    }
}

/* 2 to the power of x, for x of at most zero; off by 2e-7 of its value. */
INLINE __m512 power_of_two(__m512 x) {
    const __m512 f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 p = _mm512_fmadd_ps(f, _mm512_set1_ps(1.5353362e-4f), _mm512_set1_ps(1.3398874e-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.6184373e-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.5503324e-2f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.4022648e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.9314718e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, _mm512_sub_ps(x, f));
}

/* What head `head` of one first token looks for in the states: its query times the weights of its keys. A key's bias
 * adds the same to all scores, so it is left out. */
static void want(const Encoder* e, int hidden, int size, int head, const float* query, float* wanted) {
    const float* weights = e->last_key + (ptrdiff_t)head * size * hidden;
    const __m512i places = _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                              _mm512_set1_epi32(LANES));
    for (int i = 0; i < hidden; i += 32) {
        __m512 low = _mm512_setzero_ps(), high = low;
        for (int d = 0; d < size; d++) {
            const __m512 q = _mm512_set1_ps(query[d]);
            low = _mm512_fmadd_ps(q, _mm512_loadu_ps(weights + (ptrdiff_t)d * hidden + i), low);
            high = _mm512_fmadd_ps(q, _mm512_loadu_ps(weights + (ptrdiff_t)d * hidden + i + 16), high);
        }
        _mm512_i32scatter_ps(wanted + i * LANES, places, low, 4);
        _mm512_i32scatter_ps(wanted + (i + 16) * LANES, places, high, 4);
    }
}

/* The shares of a row's tokens, for all lanes at once; returns one through their sums. */
static __m512 share_out(const float* states, int tokens, int hidden, const float* wanted, float scale, float* parts) {
    __m512 most = _mm512_set1_ps(-3e38f), sum = _mm512_setzero_ps();
    for (int t = 0; t < tokens; t += ABREAST) {
        const float* x[ABREAST];
        __m512 a[ABREAST];
#pragma GCC unroll 8
        for (int k = 0; k < ABREAST; k++) {
            x[k] = states + (ptrdiff_t)(t + k < tokens ? t + k : tokens - 1) * hidden;
            a[k] = _mm512_setzero_ps();
        }
        for (int i = 0; i < hidden; i++) {
            const __m512 w = _mm512_loadu_ps(wanted + i * LANES);
#pragma GCC unroll 8
            for (int k = 0; k < ABREAST; k++) a[k] = _mm512_fmadd_ps(_mm512_set1_ps(x[k][i]), w, a[k]);
        }
#pragma GCC unroll 8
        for (int k = 0; k < ABREAST; k++) {
            a[k] = _mm512_mul_ps(a[k], _mm512_set1_ps(scale));
            most = _mm512_max_ps(most, a[k]);
            _mm512_storeu_ps(parts + (t + k) * LANES, a[k]);
        }
    }
    for (int t = 0; t < tokens; t++) {
        const __m512 part = power_of_two(_mm512_sub_ps(_mm512_loadu_ps(parts + t * LANES), most));
        sum = _mm512_add_ps(sum, part);
        _mm512_storeu_ps(parts + t * LANES, part);
    }
    return _mm512_div_ps(_mm512_set1_ps(1), sum);
}

/* A row's states, mixed by the shares of `lanes` heads: seen [LANES][hidden]. */
static void mix_states(const float* states, int tokens, int hidden, int lanes, const float* parts, __m512 through,
                       float* seen) {
    float each[LANES];
    _mm512_storeu_ps(each, through);
    for (int h = 0; h < lanes; h += PAIRS)
        for (int i = 0; i < hidden; i += 32) {
            __m512 low[PAIRS], high[PAIRS];
#pragma GCC unroll 8
            for (int k = 0; k < PAIRS; k++) low[k] = high[k] = _mm512_setzero_ps();
            for (int t = 0; t < tokens; t++) {
                const __m512 x0 = _mm512_loadu_ps(states + (ptrdiff_t)t * hidden + i);
                const __m512 x1 = _mm512_loadu_ps(states + (ptrdiff_t)t * hidden + i + 16);
#pragma GCC unroll 8
                for (int k = 0; k < PAIRS; k++) {
                    const __m512 part = _mm512_set1_ps(parts[t * LANES + h + k]);
                    low[k] = _mm512_fmadd_ps(part, x0, low[k]);
                    high[k] = _mm512_fmadd_ps(part, x1, high[k]);
                }
            }
#pragma GCC unroll 8
            for (int k = 0; k < PAIRS; k++) {
                const __m512 one = _mm512_set1_ps(each[h + k]);
                _mm512_storeu_ps(seen + (h + k) * hidden + i, _mm512_mul_ps(low[k], one));
                _mm512_storeu_ps(seen + (h + k) * hidden + i + 16, _mm512_mul_ps(high[k], one));
            }
        }
}

/* What head `head` makes of the states it has seen: the weights of its values times these, and their bias. */
static void tell(const Encoder* e, int hidden, int size, int head, const float* seen, float* out) {
    const float* weights = e->last_value + (ptrdiff_t)head * hidden * size;
    const float* bias = e->layers[e->count - 1].value.bias + head * size;
    for (int d = 0; d < size; d += 32) {
        __m512 low[4], high[4];
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) low[k] = high[k] = _mm512_setzero_ps();
        for (int i = 0; i < hidden; i += 4)
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++) {
                const __m512 x = _mm512_set1_ps(seen[i + k]);
                low[k] = _mm512_fmadd_ps(x, _mm512_loadu_ps(weights + (i + k) * size + d), low[k]);
                high[k] = _mm512_fmadd_ps(x, _mm512_loadu_ps(weights + (i + k) * size + d + 16), high[k]);
            }
        low[0] = _mm512_add_ps(_mm512_add_ps(low[0], low[1]), _mm512_add_ps(low[2], low[3]));
        high[0] = _mm512_add_ps(_mm512_add_ps(high[0], high[1]), _mm512_add_ps(high[2], high[3]));
        _mm512_storeu_ps(out + d, _mm512_add_ps(low[0], _mm512_loadu_ps(bias + d)));
        _mm512_storeu_ps(out + d + 16, _mm512_add_ps(high[0], _mm512_loadu_ps(bias + d + 16)));
    }
}

/* The last layer's attention for first tokens alone. Keys and values of all the others would be made for one query
 * each; instead the query goes to the states, and the states' mixture to the values: both in fp32. */
static void attend_from_first(const Scratch* s, const Encoder* e, int rows, const int32_t* bounds,
                              const float* states) {
    const Layer* l = e->layers + e->count - 1;
    const int hidden = l->query.inputs, size = hidden / e->heads;
    const float scale = LOG2_E / sqrtf((float)size);
    multiply(&l->query, rows, s->first_bytes, s->first_steps, 0, hidden, s->queries, hidden);
    for (int c = 0; c < rows; c += FIRSTS)
        for (int g = 0; g < e->heads; g += LANES) {
            const int here = rows - c < FIRSTS ? rows - c : FIRSTS, lanes = e->heads - g < LANES ? e->heads - g : LANES;
            if (lanes < LANES) memset(s->wanted, 0, (size_t)here * hidden * LANES * sizeof(float));
            for (int h = 0; h < lanes; h++)
                for (int r = 0; r < here; r++)
                    want(e, hidden, size, g + h, s->queries + (ptrdiff_t)(c + r) * hidden + (g + h) * size,
                         s->wanted + (ptrdiff_t)r * hidden * LANES + h);
            for (int r = 0; r < here; r++) {
                const float* x = states + (ptrdiff_t)bounds[c + r] * hidden;
                const int tokens = bounds[c + r + 1] - bounds[c + r];
                const __m512 through =
                    share_out(x, tokens, hidden, s->wanted + (ptrdiff_t)r * hidden * LANES, scale, s->parts);
                mix_states(x, tokens, hidden, lanes, s->parts, through, s->seen + (ptrdiff_t)r * hidden * LANES);
            }
            for (int h = 0; h < lanes; h++)
                for (int r = 0; r < here; r++)
                    tell(e, hidden, size, g + h, s->seen + ((ptrdiff_t)r * LANES + h) * hidden,
                         s->mixed + (ptrdiff_t)(c + r) * hidden + (g + h) * size);
        }
}

/* What follows attention; the new states are rounded for the next layer's product `next`, if any. */
static void feed_forward(const Scratch* s, const Layer* l, int rows, float* states, const float* mixed,
                         const Product* next, uint8_t* bytes, Scale* steps) {
    const int hidden = l->query.inputs, inner = l->outer.inputs, width = l->outer.group, groups = inner / width;
    round_states(&l->mixed, rows, mixed, s->block_bytes, s->block_steps);
    multiply(&l->mixed, rows, s->block_bytes, s->block_steps, 0, hidden, s->put_out, hidden);
    add_normalise_and_round(rows, hidden, states, s->put_out, &l->attended, &l->inner, s->block_bytes, s->block_steps);
    for (int g = 0; g < groups; g++) {
        multiply(&l->inner, rows, s->block_bytes, s->block_steps, g * width, (g + 1) * width, s->raw, width);
        activate_and_round(&l->outer, g, rows, s->raw, s->inner_bytes, s->inner_steps);
    }
    multiply(&l->outer, rows, s->inner_bytes, s->inner_steps, 0, hidden, s->put_out, hidden);
    add_normalise_and_round(rows, hidden, states, s->put_out, &l->put_out, next, bytes, steps);
}

/* Bytes of scratch memory for so many tokens and rows at once, of which the longest has `longest` tokens. */
size_t windrow_scratch(const Encoder* e, int tokens, int rows, int longest) {
    Scratch s;
    return (size_t)lay_out(&s, e, tokens, rows, longest, (uint8_t*)64);
}

/* Write the last layer's states of all tokens into `states` [tokens][hidden]; row r's tokens are bounds[r] to
 * bounds[r + 1]. With `first_only`, the last layer is run for each row's first token alone, and the states of these
 * lie at the start. */
void windrow_encode(const Encoder* e, int rows, const int32_t* bounds, const int64_t* ids, const int64_t* positions,
                    int first_only, float* states, uint8_t* memory) {
    const Layer* last = e->layers + e->count - 1;
    const int hidden = last->query.inputs, groups = hidden / last->query.group, tokens = bounds[rows];
    int longest = 1;
    for (int r = 0; r < rows; r++) longest = bounds[r + 1] - bounds[r] > longest ? bounds[r + 1] - bounds[r] : longest;
    Scratch s;
    lay_out(&s, e, tokens, rows, longest, memory + (64 - (uintptr_t)memory % 64) % 64);
    BY_FEW(tokens, start, here) {
        float* first = states + (ptrdiff_t)start * hidden;
        for (int t = 0; t < here; t++) {
            memcpy(first + t * hidden, e->words + ids[start + t] * hidden, hidden * sizeof(float));
            memcpy(s.put_out + t * hidden, e->places + positions[start + t] * hidden, hidden * sizeof(float));
        }
        add_normalise_and_round(here, hidden, first, s.put_out, &e->embedded, &e->layers->query,
                                s.bytes + (ptrdiff_t)start * hidden, s.steps + (ptrdiff_t)start * groups);
    }
    for (const Layer* l = e->layers; l <= last; l++) {
        const int is_short = first_only && l == last, asking = is_short ? rows : tokens;
        const Product* next = l == last || (first_only && l + 1 == last) ? NULL : &l[1].query;
        if (is_short) {
            for (int r = 0; r < rows; r++)
                memcpy(s.firsts + (ptrdiff_t)r * hidden, states + (ptrdiff_t)bounds[r] * hidden,
                       hidden * sizeof(float));
            round_states(&l->query, rows, s.firsts, s.first_bytes, s.first_steps);
            attend_from_first(&s, e, rows, bounds, states);
            memcpy(states, s.firsts, (size_t)rows * hidden * sizeof(float));
        } else {
            attend_all(&s, l, e->heads, rows, bounds);
        }
        for (int b = 0; b < asking; b += BLOCK)
            feed_forward(&s, l, asking - b < BLOCK ? asking - b : BLOCK, states + (ptrdiff_t)b * hidden,
                         s.mixed + (ptrdiff_t)b * hidden, next, s.bytes + (ptrdiff_t)b * hidden,
                         s.steps + (ptrdiff_t)b * groups);
    }
}
