// Matrix products of bfloat16 on vectors of pairs (AVX-512 BF16), for any number of rows.
//
// A vector holds a pair of k of 16 outputs, which is a row of a tile; a pair of x, the same for all
// outputs, is broadcast against it. The sums of 8 rows and a unit of 32 outputs stay in registers
// from the first k to the last, so that a row's result does not depend on the rows beside it. The
// weights of a unit stay in L2 while all rows go past them, 8 at a time, which fetch the next unit
// meanwhile.
#pragma once
#include "linear_tiles.h"

namespace chunkwise_linear {

constexpr long kRows = 8;                // of x, whose sums are in registers together
constexpr long kRowBytes = 512l << 10;   // of x, in L2 while all weights go past them
constexpr long kStream = 8192;          // bytes between a prefetch and its use: 16 to 24 GB/s a core

// Sums of R rows, `stride` bytes apart, and a unit's weights: row `r` to `sums + 64 * r`.
template <int R>
inline void multiply_rows(const char* w, const char* x, long stride, long depth, char* sums,
                          Fetch fetch) {
    __m512 sum[R][2];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
    for (long kt = 0; kt < depth; kt++, w += kPair, x += 2 * kDepth) {
        fetch.next();
        for (int pair = 0; pair < kTile; pair++) {
            const __m512bh one = (__m512bh)_mm512_load_si512(w + 64 * pair);
            const __m512bh two = (__m512bh)_mm512_load_si512(w + kTileBytes + 64 * pair);
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) {
                int32_t both;
                std::memcpy(&both, x + r * stride + 4 * pair, sizeof both);
                const __m512bh left = (__m512bh)_mm512_set1_epi32(both);
                sum[r][0] = _mm512_dpbf16_ps(sum[r][0], left, one);
                sum[r][1] = _mm512_dpbf16_ps(sum[r][1], left, two);
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
        _mm512_store_ps(sums + 64 * r, sum[r][0]);
        _mm512_store_ps(sums + kTileBytes + 64 * r, sum[r][1]);
    }
}

using MultiplyRows = void (*)(const char*, const char*, long, long, char*, Fetch);
constexpr MultiplyRows kMultiplyRows[kRows + 1] = {
    nullptr,          multiply_rows<1>, multiply_rows<2>, multiply_rows<3>, multiply_rows<4>,
    multiply_rows<5>, multiply_rows<6>, multiply_rows<7>, multiply_rows<8>};

// Rows of x from `begin` to `end`, `stride` bytes apart, past one unit of weights; `next`: of which
// unit the weights are fetched meanwhile, or null.
inline void past_unit(const char* w, const char* next, long u, long depth, const char* x,
                      long stride, long begin, long end, const Output& out) {
    alignas(64) char sums[2 * kPair];
    const long groups = ceil_div(end - begin, kRows), lines = ceil_div(32, groups);
    if (next && groups == 1) next = w + kStream;  // nothing is used twice: fetched just ahead
    const char* last = next ? next + depth * kPair : nullptr;
    for (long row = begin; row < end; row += kRows) {
        const long count = std::min(kRows, end - row), in_panel = row % kPanel;
        char* at = sums + in_panel / kTile * kPair + in_panel % kTile * 64;
        kMultiplyRows[count](w, x + row * stride, stride, depth, at, {next, last, lines});
        if (in_panel + count == kPanel || row + count == end) out.write(sums, row - in_panel, u);
        if (next) next += lines * depth * 64;
    }
}

// Rows of x, whole along k, past the units of a thread: so many at a time as L2 holds.
template <class W>
inline void past_units(const W& w, const Matrix& x, const Output& out, Share share, char* scratch) {
    const long depth = depth_of(w.k), bytes = depth * kPair, groups = W::kPanels / kGroupPanels;
    const long at_once = std::max(1l, groups * kRowBytes / bytes) * kPanel;
    for (long row = 0; row < out.rows; row += at_once)
        for (long u = share.begin; u < share.end; u++) {
            const char* tiles = w.block(u, u + 1, 0, depth, scratch).tiles;
            const char* first = tiles - (u - share.begin) * bytes;
            const char* next = u + 1 < share.end ? tiles + bytes : first;
            past_unit(tiles, W::kInMemory ? next : nullptr, u, depth, x.row(0), x.stride * 2, row,
                      std::min(row + at_once, out.rows), out);
        }
}

// out = x w^T + bias; x is bfloat16.
template <class W>
inline void linear_vectors(const Matrix& x, const W& w, const Output& out, int threads) {
    if (!out.rows) return;
    static thread_local Workspace padded;
    const long depth = depth_of(w.k), rows = out.rows, units = ceil_div(w.n, kPanel);
    const bool whole = w.k % kDepth == 0;  // else what lies behind a row would be read
    char* copy = padded.get<char>(whole ? 0 : rows * depth * kDepth * 2);
    const Matrix in = whole ? x : Matrix{copy, depth * kDepth, false};
#pragma omp parallel num_threads(threads)
    {
        static thread_local Workspace own;
        const int index = omp_get_thread_num(), count = omp_get_num_threads();
        if (!whole) {
            const Share mine(rows, index, count);
            for (long i = mine.begin; i < mine.end; i++) {
                std::memset(in.row(i), 0, in.stride * 2);
                std::memcpy(in.row(i), x.row(i), w.k * 2);
            }
#pragma omp barrier
        }
        past_units(w, in, out, Share(units, index, count), own.get<char>(w.scratch_bytes(1)));
    }
}

}  // namespace chunkwise_linear
