// Matrix products on AMX tiles, for any number of rows.
//
// A tile holds 16 rows of 64 bytes. x becomes tiles of plain rows (16 x 32 bfloat16), weights tiles
// of pairs (16 pairs of k x 16 outputs), which is how they are kept: two tiles for 32 outputs side
// by side, one such pair of tiles after the other along k, then the next 32 outputs (a unit).
//
// Few rows wait for memory: the weights are one stream. Many rows wait for the caches: L2 gives two
// thirds of the two tiles that two products need. So a piece of 32 rows of x stays in L1, where
// streaming loads of weights do not push it out; a block of weights stays in L2 while the panels
// of a group of rows, which L2 also holds, go past it, and the next block is fetched meanwhile.
#pragma once
#include "linear_tiles.h"

#ifdef CHUNKWISE_AMX
namespace chunkwise_linear {

using chunkwise_amx::Tiles;

constexpr long kPiece = 20;             // most tiles along k of a piece of a panel: 40 KiB, in L1
constexpr long kReach = 2 * kPiece;       // most tiles along k of a block of weights
constexpr long kBlockBytes = 640l << 10;  // of weights, in L2

// `tiles` along k, cut into like pieces of at most `most`.
struct Cuts {
    long tiles, count;
    Cuts(long tiles, long most) : tiles(tiles), count(ceil_div(tiles, most)) {}
    long operator[](long i) const { return tiles * i / count; }
};

// Where 32 rows of x are: a tile of each half, the bytes from row to row and from tile to tile.
struct Rows {
    const char *first, *second;
    long stride, step;
};

// Adds the products of 32 outputs and 16 * MT rows over `depth` tiles to the sums at `c` (2 x MT
// tiles), or starts from zero.
template <int MT, bool KEPT>
inline void multiply(const char* w, Rows x, long depth, char* c, bool first, Fetch fetch) {
    asm volatile("" ::: "memory");  // GCC does not know that tile loads read memory
    if (first) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else {
        _tile_loadd(0, c, 64);
        _tile_loadd(1, c + kTileBytes, 64);
        if (MT == 2) _tile_loadd(2, c + 2 * kTileBytes, 64);
        if (MT == 2) _tile_loadd(3, c + 3 * kTileBytes, 64);
    }
    for (long kt = 0; kt < depth; kt++, w += kPair, x.first += x.step, x.second += x.step) {
        fetch.next();
        if (KEPT) _tile_stream_loadd(4, w, 64);
        else _tile_loadd(4, w, 64);
        _tile_loadd(6, x.first, x.stride);
        _tile_dpbf16ps(0, 6, 4);
        if (KEPT) _tile_stream_loadd(5, w + kTileBytes, 64);
        else _tile_loadd(5, w + kTileBytes, 64);
        _tile_dpbf16ps(1, 6, 5);
        if (MT == 2) {
            _tile_loadd(7, x.second, x.stride);
            _tile_dpbf16ps(2, 7, 4);
            _tile_dpbf16ps(3, 7, 5);
        }
    }
    _tile_stored(0, c, 64);
    _tile_stored(1, c + kTileBytes, 64);
    if (MT == 2) _tile_stored(2, c + 2 * kTileBytes, 64);
    if (MT == 2) _tile_stored(3, c + 3 * kTileBytes, 64);
    asm volatile("" ::: "memory");
}

// Up to 32 rows: every weight is used once, on its way from memory. Tiles have as many rows as
// there are, and x is read where it lies, unless its rows end within a tile.
template <class W>
inline void few_rows(const W& w, const Matrix& x, const Output& out, Share share, char* scratch) {
    const long depth = depth_of(w.k), second = std::max(0l, out.rows - kTile);
    chunkwise_amx::TileConfig config;
    for (int tile : {0, 1, 6}) config.rows[tile] = std::min(out.rows, kTile);
    for (int tile : {2, 3, 7}) config.rows[tile] = std::max(1l, second);
    Rows rows{x.row(0), x.row(second ? kTile : 0), x.stride * 2, kTile * 4};
    if (w.k % kDepth) {
        for (long i = 0; i < 2 * depth; i++)
            pack_tile(x, out.rows, i / depth * kTile, i % depth * kDepth, w.k, false,
                      scratch + i * kTileBytes);
        rows = {scratch, scratch + depth * kTileBytes, 64, kTileBytes};
        scratch += 2 * depth * kTileBytes;
    }
    const chunkwise_amx::Tiles configured(config);
    alignas(64) char sums[2 * kPair];
    const auto go = second ? multiply<2, false> : multiply<1, false>;
    for (long u = share.begin; u < share.end; u++) {
        const char* tiles = w.block(u, u + 1, 0, depth, scratch).tiles;
        const Fetch ahead{tiles + kAhead, tiles + kAhead + depth * kPair, W::kInMemory ? 32 : 0};
        go(tiles, rows, depth, sums, true, ahead);
        out.write(sums, 0, u);
    }
}

// A group of panels of x, and the units of weights that go past it together.
template <class W>
struct Group {
    const W& w;
    const char* x;
    const Output& out;
    char *sums, *scratch;
    long depth, panel, end_panel;

    void run(long u, long u_end) const {
        const Cuts blocks(depth, kReach);
        for (long b = 0; b < blocks.count; b++) {
            const Block block = w.block(u, u_end, blocks[b], blocks[b + 1], scratch);
            const bool is_last = b + 1 == blocks.count;
            // The next block: further along k, or the next units from the start.
            const char* next = is_last ? block.tiles + (u_end - u) * block.stride - blocks[b] * kPair
                                       : block.tiles + (blocks[b + 1] - blocks[b]) * kPair;
            for (long p = panel; p < end_panel; p++)
                past(block, next, u, u_end - u, p, blocks[b], blocks[b + 1], blocks.count > 1);
        }
    }

   private:
    // One panel past one block: tiles k_from .. k_to.
    void past(const Block& block, const char* next, long u, long units, long p, long k_from,
              long k_to, bool keeps) const {
        const Cuts pieces(k_to - k_from, kPiece);
        const char* rows = x + (p * depth + p * depth + k_from) * kTileBytes;
        const bool two = out.rows - p * kPanel > kTile;
        const auto go = two ? multiply<2, true> : multiply<1, true>;
        for (long piece = 0; piece < pieces.count; piece++) {
            const long from = pieces[piece], to = pieces[piece + 1];
            const char* at = rows + from * kTileBytes;
            for (long i = 0; i < units; i++) {
                const long slot = keeps ? (p - panel) * units + i : pieces.count > 1 ? i : 0;
                char* c = sums + slot * 2 * kPair;
                const Fetch fetch = part_of(next + i * block.stride, p, pieces.tiles, from, to);
                go(block.tiles + i * block.stride + from * kPair,
                   {at, at + depth * kTileBytes, 64, kTileBytes}, to - from, c, k_from + from == 0,
                   fetch);
                if (k_from + to == depth) out.write(c, p * kPanel, u + i);
            }
        }
    }
    // What panel p fetches of a unit of the next block during its steps from .. to.
    Fetch part_of(const char* next, long p, long steps, long from, long to) const {
        const long panels = end_panel - panel;
        const long begin = ((p - panel) * steps + from) * 32 / panels;
        const long end = ((p - panel) * steps + to) * 32 / panels;
        return {next + begin * 64, next + end * 64,
                W::kInMemory ? ceil_div(end - begin, to - from) : 0};
    }
};

// More rows, a group after the other.
template <class W>
inline void many_rows(const W& w, const char* x, const Output& out, Share share, char* sums,
                      char* scratch, long in_l2) {
    const long panels = ceil_div(out.rows, kPanel);
    for (long p = 0; p < panels; p += W::kPanels) {
        const long end = std::min(p + W::kPanels, panels);
        const Group<W> group{w, x, out, sums, scratch, depth_of(w.k), p, end};
        for (long u = share.begin; u < share.end; u += in_l2)
            group.run(u, std::min(u + in_l2, share.end));
    }
}

// out = x w^T + bias; x is bfloat16.
template <class W>
inline void linear_tiles(const Matrix& x, const W& w, const Output& out, int threads) {
    if (!out.rows) return;
    static thread_local Workspace packed;
    const long depth = depth_of(w.k), rows = out.rows, units = ceil_div(w.n, kPanel);
    const bool few = rows <= kPanel;
    const long row_tiles = few ? 0 : 2 * ceil_div(rows, kPanel);
    const long reach = ceil_div(depth, Cuts(depth, kReach).count);
    const long in_l2 = std::max(1l, kBlockBytes / (kPair * reach));
    const long sums_bytes = in_l2 * std::min(row_tiles / 2, W::kPanels) * 2 * kPair;
    char* tiles = packed.get<char>(row_tiles * depth * kTileBytes);
#pragma omp parallel num_threads(threads)
    {
        static thread_local Workspace own;
        const int index = omp_get_thread_num(), count = omp_get_num_threads();
        const Share mine(row_tiles * depth, index, count), share(units, index, count);
        if (few) {
            few_rows(w, x, out, share, own.get<char>(depth * kPair + w.scratch_bytes(1)));
        } else {
            for (long i = mine.begin; i < mine.end; i++)
                pack_tile(x, rows, i / depth * kTile, i % depth * kDepth, w.k, false,
                          tiles + i * kTileBytes);
            char* sums = own.get<char>(sums_bytes + w.scratch_bytes(in_l2));
#pragma omp barrier
            const Tiles configured;
            many_rows(w, tiles, out, share, sums, sums + sums_bytes, in_l2);
        }
    }
}

}  // namespace chunkwise_linear
#endif
