// Matrix products on AMX tiles, for any number of rows.
//
// A tile holds 16 rows of 64 bytes. One operand of a product is plain rows (16 x 32 bfloat16), the
// other holds pairs of k side by side (16 pairs x 16 columns). Row-major bfloat16 weights are plain
// rows as they lie in memory, so that x is brought into pairs; dequantised weights come out as
// pairs, so that x is copied as plain rows. Loops: a block of weights stays in the L2 cache, a panel
// of 32 rows of x goes past it in pieces that fit the L1 cache.
#pragma once
#include "linear_common.h"

#if defined(__AMX_BF16__) && defined(__AMX_TILE__) && defined(__AVX512VBMI__)
#define CHUNKWISE_AMX 1
#include <sys/syscall.h>
#include <unistd.h>

namespace chunkwise_linear {

constexpr long kTile = 16;       // rows, or columns, of a tile
constexpr long kDepth = 32;      // k of a tile
constexpr long kTileBytes = 1024;
constexpr long kPiece = 16;      // tiles along k of a piece of a panel: 2 x 16 KiB, in L1
constexpr long kAhead = 16;      // tiles along k between a prefetch and its use
constexpr long kBlockBytes = 1l << 20;  // of weights, in L2

struct alignas(64) TileConfig {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t bytes_per_row[16] = {};
    uint8_t rows[16] = {};
};

// Asks the kernel once for the right to use tiles.
inline bool tiles_allowed() {
    constexpr long kRequestPermission = 0x1023, kTileData = 18;
    static const bool allowed = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
    return allowed;
}

// Tiles of one thread; released at the end, since oneDNN configures its own.
struct Tiles {
    Tiles() {
        TileConfig config;
        for (int i = 0; i < 8; i++) config.bytes_per_row[i] = 64, config.rows[i] = 16;
        _tile_loadconfig(&config);
    }
    ~Tiles() { _tile_release(); }
};

inline void transpose16(__m512i r[16]) {
    __m512i t[16];
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 4; i++) {
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    }
}

// Rows `row` .. +16 and columns `k` .. +32 of bfloat16 x as one tile; what is outside is zero.
inline void pack_tile(const Matrix& x, long rows, long row, long k, long end, bool pairs,
                      char* tile) {
    const __mmask32 mask = k + 32 <= end ? 0xffffffff : (1u << (end - k)) - 1;
    __m512i r[16];
    for (int i = 0; i < 16; i++)
        r[i] = row + i < rows ? _mm512_maskz_loadu_epi16(mask, (const bf16*)x.row(row + i) + k)
                              : _mm512_setzero_si512();
    if (pairs) transpose16(r);
    for (int i = 0; i < 16; i++) _mm512_store_si512(tile + 64 * i, r[i]);
}

// Row-major bfloat16 weights `(n, k)`, read where they lie: for one panel of x.
struct DenseWeights {
    static constexpr bool kPairs = false;   // the weights are the plain rows
    static constexpr bool kStreams = true;  // from memory, not from a block in the L2 cache
    const bf16* data;
    long n, k;

    long scratch_bytes(long) const { return 4 * kTileBytes; }
    void prepare(long, long, char*) const {}

    // Where the tile of outputs n0 .. +16 and columns k0 .. +32 lies, and its stride; a tile over
    // the edge is copied, since what is beyond may not be there or not be finite.
    const void* tile(long, long n0, long kt, long, char* scratch, long& stride) const {
        const long k0 = kt * kDepth;
        stride = k * 2;
        if (n0 + kTile <= n && k0 + kDepth <= k) return data + n0 * k + k0;
        pack_tile({(char*)data, k, false}, n, n0, k0, k, false, scratch);
        stride = 64;
        return scratch;
    }
    // The next rows lie behind these ones: they are fetched in the order of memory, a like share at
    // each step, as the hardware's prefetcher is confused by two rows in a page.
    void prefetch(long n0, long kt, long kts) const {
        (void)kts;
        if (n0 + 4 * kTile > n) return;
        const char* at = (const char*)(data + (n0 + 2 * kTile) * k) + kt * 2 * kTileBytes;
        for (int i = 0; i < 32; i++) _mm_prefetch(at + 64 * i, _MM_HINT_T1);
    }
    __m512 scale(long) const { return _mm512_set1_ps(1.f); }
};

// The same, a block at a time copied to tiles in the L2 cache: for more panels. Rows a power of two
// apart share few sets of the caches.
struct CopiedWeights : DenseWeights {
    static constexpr bool kStreams = false;

    long scratch_bytes(long outputs) const {
        return outputs / kTile * ceil_div(k, kDepth) * kTileBytes;
    }
    void prepare(long n0, long n_end, char* block) const {
        const long kts = ceil_div(k, kDepth);
        const Matrix rows{(char*)data, k, false};
        for (; n0 < n_end; n0 += 2 * kTile, block += 2 * kts * kTileBytes)
            for (long kt = 0; kt < kts; kt++) {
                prefetch(n0, kt, kts);
                char* first = block + kt * kTileBytes;
                pack_tile(rows, n, n0, kt * kDepth, k, false, first);
                pack_tile(rows, n, n0 + kTile, kt * kDepth, k, false, first + kts * kTileBytes);
            }
    }
    const void* tile(long base, long n0, long kt, long kts, char* block, long& stride) const {
        stride = 64;
        return block + ((n0 - base) / kTile * kts + kt) * kTileBytes;
    }
};

// Adds the products of 32 outputs and 16 * MT rows over tiles kt .. kt_end to the tiles at `c`
// (2 x MT of 1 KiB; `first`: starts from zero).
template <int MT, class W>
inline void multiply(const W& w, long base, long n0, long kt, long kt_end, long kts, const char* x,
                     char* c, bool first, char* scratch) {
    if (first) {
        _tile_zero(0);
        _tile_zero(1);
        if (MT == 2) {
            _tile_zero(2);
            _tile_zero(3);
        }
    } else {
        _tile_loadd(0, c, 64);
        _tile_loadd(1, c + kTileBytes, 64);
        if (MT == 2) {
            _tile_loadd(2, c + 2 * kTileBytes, 64);
            _tile_loadd(3, c + 3 * kTileBytes, 64);
        }
    }
    const char* x0 = x + kt * kTileBytes;
    const char* x1 = x0 + kts * kTileBytes;
    for (; kt < kt_end; kt++, x0 += kTileBytes, x1 += kTileBytes) {
        long s0, s1;
        const void* w0 = w.tile(base, n0, kt, kts, scratch, s0);
        const void* w1 =
            w.tile(base, n0 + kTile, kt, kts, scratch + (W::kStreams ? kTileBytes : 0), s1);
        if (W::kStreams) w.prefetch(n0, kt, kts);
        _tile_loadd(4, w0, s0);
        _tile_loadd(5, w1, s1);
        _tile_loadd(6, x0, 64);
        if (MT == 2) _tile_loadd(7, x1, 64);
        if (W::kPairs) {
            _tile_dpbf16ps(0, 6, 4);
            _tile_dpbf16ps(1, 6, 5);
            if (MT == 2) _tile_dpbf16ps(2, 7, 4);
            if (MT == 2) _tile_dpbf16ps(3, 7, 5);
        } else {
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 5, 6);
            if (MT == 2) _tile_dpbf16ps(2, 4, 7);
            if (MT == 2) _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, c, 64);
    _tile_stored(1, c + kTileBytes, 64);
    if (MT == 2) {
        _tile_stored(2, c + 2 * kTileBytes, 64);
        _tile_stored(3, c + 3 * kTileBytes, 64);
    }
}

// Writes a tile of sums of outputs n0 .. +16 and rows m0 .. +16, with scale and bias.
template <class W>
inline void finish(const W& w, const char* c, const float* bias, const Matrix& out, long rows,
                   long m0, long n0) {
    if (n0 >= w.n || m0 >= rows) return;
    __m512i r[16];
    for (int i = 0; i < 16; i++) r[i] = _mm512_load_si512(c + 64 * i);
    if (!W::kPairs) transpose16(r);
    const __m512 scale = w.scale(n0), add = bias ? load16({(char*)bias, 0, true}, 0, n0, w.n)
                                                 : _mm512_setzero_ps();
    for (int i = 0; i < 16 && m0 + i < rows; i++)
        store16(out, m0 + i, n0, w.n, _mm512_fmadd_ps(_mm512_castsi512_ps(r[i]), scale, add));
}

// One thread's outputs, `begin` .. `end` in units of 32, for all rows. `x`: packed tiles.
template <class W>
inline void outputs(const W& w, const char* x, long rows, const float* bias, const Matrix& out,
                    Share share, char* scratch) {
    const long kts = ceil_div(w.k, kDepth), panels = ceil_div(rows, 32);
    const long piece = panels == 1 ? kts : kPiece;
    const long in_l2 = std::max(1l, kBlockBytes / (2 * kTileBytes * kts));
    const long block = panels == 1 ? 1 : in_l2;
    char* sums = scratch;                              // block x 4 tiles
    char* edge = sums + in_l2 * 4 * kTileBytes;        // of W
    for (long b = share.begin; b < share.end; b += block) {
        const long b_end = std::min(b + block, share.end), base = b * 32;
        w.prepare(base, b_end * 32, edge);
        for (long p = 0; p < panels; p++) {
            const char* panel = x + p * 2 * kts * kTileBytes;
            const bool two = rows - p * 32 > 16;
            for (long kt = 0; kt < kts; kt += piece) {
                const long kt_end = std::min(kt + piece, kts);
                for (long u = b; u < b_end; u++) {
                    char* c = sums + (u - b) * 4 * kTileBytes;
                    auto go = two ? multiply<2, W> : multiply<1, W>;
                    go(w, base, u * 32, kt, kt_end, kts, panel, c, kt == 0, edge);
                    if (kt_end < kts) continue;
                    for (int t = 0; t < (two ? 4 : 2); t++)
                        finish(w, c + t * kTileBytes, bias, out, rows, p * 32 + t / 2 * 16,
                               u * 32 + t % 2 * 16);
                }
            }
        }
    }
}

// out = x w^T + bias; x is bfloat16.
template <class W>
inline void linear_tiles(const Matrix& x, long rows, const W& w, const float* bias,
                         const Matrix& out, int threads) {
    static thread_local Workspace packed;
    const long kts = ceil_div(w.k, kDepth), mts = 2 * ceil_div(rows, 32);
    char* tiles = packed.get<char>(mts * kts * kTileBytes);
    const long units = ceil_div(w.n, 32);
#pragma omp parallel num_threads(threads)
    {
        static thread_local Workspace own;
        const int index = omp_get_thread_num(), count = omp_get_num_threads();
        const Share mine(mts * kts, index, count);
        for (long i = mine.begin; i < mine.end; i++)
            pack_tile(x, rows, i / kts * kTile, i % kts * kDepth, w.k, !W::kPairs,
                      tiles + i * kTileBytes);
        const long in_l2 = std::max(1l, kBlockBytes / (2 * kTileBytes * kts));
        char* scratch = own.get<char>(in_l2 * 4 * kTileBytes + w.scratch_bytes(in_l2 * 32));
#pragma omp barrier
        Tiles configured;
        outputs(w, tiles, rows, bias, out, Share(units, index, count), scratch);
    }
}

}  // namespace chunkwise_linear
#endif
