// Weights of 8 and 4 bits: how they lie in memory, products for few rows, widening for AMX.
//
// Weights lie in blocks of 16 outputs x 32 columns (a group), groups of the same outputs one after
// the other. Within a group every 8 columns are in the order 0 4 1 5 2 6 3 7, and every 4 of them
// stand together for each of the 16 outputs:
//   int8: 8 vectors of 16 outputs x 4 columns, each byte the number + 128;
//   int4: 4 vectors like them, each byte holding two numbers + 8: columns 0 4 1 5 low, 2 6 3 7
//         high; then 16 scales of the group in float16, as a share of the row's scale.
// For few rows x is split into two 8-bit pieces with a scale per group, so 16 bits in all: finer
// than bfloat16, and the sums over a group are exact. So the dot products of integers (VNNI) take
// the place of widening the weights, which would be slower than the memory.
#pragma once
#include "linear_common.h"

namespace chunkwise_linear {

constexpr long kGroup = 32;
constexpr long kOutputs = 16;

// 32 numbers of a row of x: value = scale * (256 * high + low), in the order of the weights.
struct alignas(16) PieceGroup {
    int8_t high[kGroup], low[kGroup];
    float scale;
    int32_t high_sum, low_sum, unused;
};

// A group with NaN or infinity gets the scale NaN: its row becomes NaN, and no other.
inline void split(const Matrix& x, long row, long k, long end, PieceGroup& out) {
    const __m512 a = load16(x, row, k, end), b = load16(x, row, k + 16, end);
    const __m512i sign_off = _mm512_set1_epi32(0x7fffffff);
    const __m512i bits = _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(a), sign_off),
                                          _mm512_and_si512(_mm512_castps_si512(b), sign_off));
    const uint32_t top = _mm512_reduce_max_epu32(bits);
    float largest;
    std::memcpy(&largest, &top, 4);
    const bool usable = top < 0x7f800000 && top > 0x02000000;  // else 0 (or as good as), or NaN
    const __m512 up = _mm512_set1_ps(usable ? 32512.f / largest : 0.f);
    const __m512i ia = _mm512_cvtps_epi32(_mm512_mul_ps(a, up));
    const __m512i ib = _mm512_cvtps_epi32(_mm512_mul_ps(b, up));
    const __m512i half = _mm512_set1_epi32(128);
    const __m512i ha = _mm512_srai_epi32(_mm512_add_epi32(ia, half), 8);
    const __m512i hb = _mm512_srai_epi32(_mm512_add_epi32(ib, half), 8);
    const __m256i order = _mm256_set_epi8(15, 11, 14, 10, 13, 9, 12, 8, 7, 3, 6, 2, 5, 1, 4, 0, 15,
                                          11, 14, 10, 13, 9, 12, 8, 7, 3, 6, 2, 5, 1, 4, 0);
    const auto narrow = [&](__m512i p, __m512i q) {
        const __m256i both = _mm256_set_m128i(_mm512_cvtepi32_epi8(q), _mm512_cvtepi32_epi8(p));
        return _mm256_shuffle_epi8(both, order);
    };
    const __m512i la = _mm512_sub_epi32(ia, _mm512_slli_epi32(ha, 8));
    const __m512i lb = _mm512_sub_epi32(ib, _mm512_slli_epi32(hb, 8));
    _mm256_storeu_si256((__m256i*)out.high, narrow(ha, hb));
    _mm256_storeu_si256((__m256i*)out.low, narrow(la, lb));
    out.high_sum = _mm512_reduce_add_epi32(_mm512_add_epi32(ha, hb));
    out.low_sum = _mm512_reduce_add_epi32(_mm512_add_epi32(la, lb));
    out.scale = usable ? largest / 32512.f : 0.f;
    const uint32_t nan = 0x7fc00000;
    if (top >= 0x7f800000) std::memcpy(&out.scale, &nan, 4);
}

struct QuantWeights {
    const uint8_t* data;
    const float* row_scales;  // of outputs up to a multiple of 32
    long n, k;
    long groups() const { return ceil_div(k, kGroup); }
};

struct Int8 {
    static constexpr long kBytes = 512;  // of a group of 16 outputs
    static constexpr int kOffset = 128;

    static void load(const uint8_t* at, __m512i w[8]) {
        for (int d = 0; d < 8; d++) w[d] = _mm512_loadu_si512(at + 64 * d);
    }
    static __m512 scale(const uint8_t*) { return _mm512_set1_ps(1.f); }
};

struct Int4 {
    static constexpr long kBytes = 288;
    static constexpr int kOffset = 8;

    static void load(const uint8_t* at, __m512i w[8]) {
        const __m512i nibble = _mm512_set1_epi8(15);
        for (int j = 0; j < 4; j++) {
            const __m512i both = _mm512_loadu_si512(at + 64 * j);
            w[2 * j] = _mm512_and_si512(both, nibble);
            w[2 * j + 1] = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble);
        }
    }
    static __m512 scale(const uint8_t* at) {
        return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)(at + 256)));
    }
};

// Sums of 16 outputs for M rows of pieces, `groups` apart.
template <class Format, int M>
inline void block_sums(const uint8_t* at, const PieceGroup* x, long groups, __m512 sums[M]) {
    for (int m = 0; m < M; m++) sums[m] = _mm512_setzero_ps();
    for (long g = 0; g < groups; g++, at += Format::kBytes) {
        for (long ahead = 0; ahead < Format::kBytes; ahead += 64)
            _mm_prefetch((const char*)at + 8192 + ahead, _MM_HINT_T0);
        __m512i high[M], low[M], w[8];
        for (int m = 0; m < M; m++) {
            const PieceGroup& p = x[m * groups + g];
            high[m] = _mm512_set1_epi32(-Format::kOffset * p.high_sum);
            low[m] = _mm512_set1_epi32(-Format::kOffset * p.low_sum);
        }
        Format::load(at, w);
        for (int d = 0; d < 8; d++)
            for (int m = 0; m < M; m++) {
                const PieceGroup& p = x[m * groups + g];
                int32_t h, l;
                std::memcpy(&h, p.high + 4 * d, 4);
                std::memcpy(&l, p.low + 4 * d, 4);
                high[m] = _mm512_dpbusd_epi32(high[m], w[d], _mm512_set1_epi32(h));
                low[m] = _mm512_dpbusd_epi32(low[m], w[d], _mm512_set1_epi32(l));
            }
        const __m512 scale = Format::scale(at);
        for (int m = 0; m < M; m++) {
            const __m512i whole = _mm512_add_epi32(_mm512_slli_epi32(high[m], 8), low[m]);
            const __m512 factor = _mm512_mul_ps(scale, _mm512_set1_ps(x[m * groups + g].scale));
            sums[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole), factor, sums[m]);
        }
    }
}

template <class Format, int M>
inline void block_rows(const QuantWeights& w, long n0, const PieceGroup* x, const float* bias,
                       const Matrix& out, long row) {
    __m512 sums[M];
    const uint8_t* at = w.data + n0 / kOutputs * w.groups() * Format::kBytes;
    block_sums<Format, M>(at, x + row * w.groups(), w.groups(), sums);
    const __m512 scale = _mm512_loadu_ps(w.row_scales + n0);
    const __m512 add =
        bias ? load16({(char*)bias, 0, true}, 0, n0, w.n) : _mm512_setzero_ps();
    for (int m = 0; m < M; m++)
        store16(out, row + m, n0, w.n, _mm512_fmadd_ps(sums[m], scale, add));
}

// out = x w^T + bias by integer dot products, 8 rows at a time.
template <class Format>
inline void linear_pieces(const Matrix& x, long rows, const QuantWeights& w, const float* bias,
                          const Matrix& out, int threads) {
    static thread_local Workspace pieces;
    const long groups = w.groups(), blocks = ceil_div(w.n, kOutputs);
    PieceGroup* split_x = pieces.get<PieceGroup>(rows * groups * sizeof(PieceGroup));
#pragma omp parallel num_threads(threads)
    {
        const int index = omp_get_thread_num(), count = omp_get_num_threads();
        const Share groups_here(rows * groups, index, count), mine(blocks, index, count);
        for (long i = groups_here.begin; i < groups_here.end; i++)
            split(x, i / groups, i % groups * kGroup, w.k, split_x[i]);
#pragma omp barrier
        for (long b = mine.begin; b < mine.end; b++) {
            const long n0 = b * kOutputs;
            long row = 0;
            for (; row + 8 <= rows; row += 8)
                block_rows<Format, 8>(w, n0, split_x, bias, out, row);
            if (rows & 4) block_rows<Format, 4>(w, n0, split_x, bias, out, row), row += 4;
            if (rows & 2) block_rows<Format, 2>(w, n0, split_x, bias, out, row), row += 2;
            if (rows & 1) block_rows<Format, 1>(w, n0, split_x, bias, out, row);
        }
    }
}

}  // namespace chunkwise_linear
