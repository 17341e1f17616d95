// bfloat16 weights as tiles, where products on them leave their sums, and where those go.
//
// Weights are tiles of pairs (16 pairs of k x 16 outputs), which is what AMX takes and what vectors of
// 16 outputs are for `VDPBF16PS`: two tiles for 32 outputs side by side, one such pair of tiles after
// the other along k, then the next 32 outputs (a unit). Sums of 32 rows and a unit are four tiles of
// 16 rows x 16 outputs in float32, the second of a pair of tiles being that of outputs 16 to 31.
#pragma once
#include "activation.h"
#include "amx.h"
#include "linear_common.h"

namespace chunkwise_linear {

constexpr long kTile = 16;       // rows, or columns, of a tile
constexpr long kDepth = 32;      // k of a tile
constexpr long kTileBytes = 1024;
constexpr long kPair = 2 * kTileBytes;  // tiles of 32 outputs, or of 32 rows of x
constexpr long kPanel = 32;             // rows of x, or outputs, of one multiplication
constexpr long kGroupPanels = 16;       // panels of rows that go past a block of weights
constexpr long kAhead = 2048;           // bytes between a prefetch and its use in a stream

inline long depth_of(long k) { return ceil_div(k, kDepth); }

// Rows `row` .. +16 and columns `k` .. +32 of bfloat16 x as one tile; what is outside is zero.
inline void pack_tile(const Matrix& x, long rows, long row, long k, long end, bool pairs,
                      char* tile) {
    const __mmask32 mask = k + 32 <= end ? 0xffffffff : (1u << (end - k)) - 1;
    __m512i r[16];
    for (int i = 0; i < 16; i++)
        r[i] = row + i < rows ? _mm512_maskz_loadu_epi16(mask, (const bf16*)x.row(row + i) + k)
                              : _mm512_setzero_si512();
    if (pairs) chunkwise_amx::transpose16(r);
    for (int i = 0; i < 16; i++) _mm512_store_si512(tile + 64 * i, r[i]);
}

// Row-major weights `(n, k)` to tiles. `gated`: the upper half of the rows are gates, and a unit is
// 16 gates and the 16 rows that they are for.
inline void pack_weights(const Matrix& w, long n, long k, bool gated, char* out, int threads) {
    const long depth = depth_of(k), width = gated ? n / 2 : n;
    const long outputs = gated ? kTile : kPanel, other = gated ? width : kTile;
#pragma omp parallel for num_threads(threads)
    for (long u = 0; u < ceil_div(width, outputs); u++)
        for (long kt = 0; kt < depth; kt++)
            for (long half = 0; half < 2; half++)
                pack_tile(w, gated ? width * (1 + half) : n, u * outputs + half * other,
                          kt * kDepth, k, true,
                          out + (u * depth + kt) * kPair + half * kTileBytes);
}

// Tiles of some units: the pair at `kt` of unit `i` is at `tiles + i * stride + kt * kPair`.
struct Block {
    const char* tiles;
    long stride;
};

// bfloat16 weights that are tiles already.
struct PackedWeights {
    const char* tiles;
    long n, k;
    static constexpr long kPanels = kGroupPanels;
    static constexpr bool kInMemory = true;

    long scratch_bytes(long) const { return 0; }
    // Tiles `from` .. `to` along k of units u .. u_end.
    Block block(long u, long, long from, long, char*) const {
        const long stride = depth_of(k) * kPair;
        return {tiles + u * stride + from * kPair, stride};
    }
};

// What a multiplication fetches beside its own work, some lines at each step along k.
struct Fetch {
    const char *at, *end;
    long lines;
    void next() {
        for (long i = 0; i < lines && at < end; i++, at += 64) _mm_prefetch(at, _MM_HINT_T1);
    }
};

// Where sums go: scaled, with bias, rounded; gated ones as silu(gate) * up.
struct Output {
    Matrix matrix;
    long rows, n;                // n: columns of the matrix
    const float *bias, *scales;  // of each sum, or null; scales up to a multiple of 32
    bool gated;

    // Biases of 16 sums from n0 on, zero from `end` on.
    __m512 bias16(long n0, long end) const {
        return bias ? load16({(char*)bias, 0, true}, 0, n0, end) : _mm512_setzero_ps();
    }
    // Sums of rows m0 .. and of unit u, as `multiply` left them.
    void write(const char* c, long m0, long u) const {
        const long n0 = u * (gated ? kTile : kPanel), count = std::min(rows - m0, kPanel);
        const __m512 one = _mm512_set1_ps(1.f), by0 = scales ? _mm512_loadu_ps(scales + n0) : one;
        const __m512 by1 = scales ? _mm512_loadu_ps(scales + n0 + kTile) : one;
        const __m512 add0 = bias16(n0, n);
        const __m512 add1 = gated ? bias16(n + n0, 2 * n) : bias16(n0 + kTile, n);
        for (long i = 0; i < count; i++) {
            const char* sums = c + i / kTile * kPair + i % kTile * 64;
            const __m512 a = _mm512_fmadd_ps(_mm512_load_ps(sums), by0, add0);
            const __m512 b = _mm512_fmadd_ps(_mm512_load_ps(sums + kTileBytes), by1, add1);
            write_row(m0 + i, n0, a, b);
        }
    }

   private:
    void write_row(long row, long n0, __m512 a, __m512 b) const {
        if (gated) {
            using chunkwise::rounded;
            store16(matrix, row, n0, n,
                    chunkwise::gated<bf16>(rounded<bf16>(a), rounded<bf16>(b)));
            return;
        }
        const __mmask32 mask = n - n0 >= kPanel ? 0xffffffff : (1u << (n - n0)) - 1;
        _mm512_mask_storeu_epi16((bf16*)matrix.row(row) + n0, mask,
                                 (__m512i)_mm512_cvtne2ps_pbh(b, a));
    }
};

}  // namespace chunkwise_linear
