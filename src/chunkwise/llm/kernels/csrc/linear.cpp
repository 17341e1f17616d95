// Linear layers: `x @ weight.T + bias`. Called from cpu_linear.py by address; threads: of OpenMP.
#include "linear_amx.h"
#include "linear_quant.h"
#include "linear_vectors.h"
#include "linear_widen.h"

using namespace chunkwise_linear;

namespace {

// Products of bfloat16, on AMX where `amx`, else on vectors.
template <class W>
void linear_wide(const Matrix& x, const W& w, const Output& out, bool amx, int threads) {
#ifdef CHUNKWISE_AMX
    if (amx) {
        linear_tiles(x, w, out, threads);
        return;
    }
#endif
    linear_vectors(x, w, out, threads);
}

}  // namespace

extern "C" {

// 1 where AMX can be used: compiled in, and allowed by the operating system.
int cw_linear_has_amx() { return chunkwise_amx::tiles_allowed(); }

// w (n, k) bfloat16, row-major; out: tiles of k rounded up to a multiple of 32 and of n likewise, or
// (gated) of n / 2 rounded up to a multiple of 16, twice.
void cw_linear_pack(const void* w, long n, long k, int gated, void* out, int threads) {
    pack_weights({(char*)w, k, false}, n, k, gated, (char*)out, threads);
}

// x (rows, k) bfloat16, rows x_stride apart; w from `cw_linear_pack`; bias float32 or null; out
// (rows, n) bfloat16, n being half of the rows of gated weights. On AMX where `amx`, else on vectors.
void cw_linear_bf16(const void* x, long x_stride, long rows, const void* w, long n, long k,
                    int gated, const void* bias, void* out, int amx, int threads) {
    const long outputs = gated ? 2 * ceil_div(n, kTile) * kTile : n;
    const Output result{{(char*)out, n, false}, rows, n, (const float*)bias, nullptr, gated != 0};
    const PackedWeights weights{(const char*)w, outputs, k};
    linear_wide({(char*)x, x_stride, false}, weights, result, amx, threads);
}

// x (rows, k), row `i` at i * x_stride elements, bfloat16 or (wide) float32; w: `bits` = 8 or 4, packed as
// linear_quant.h says; scales float32 for n up to a multiple of 32; out (rows, n) like x.
// From `wide_rows` rows on weights are widened for bfloat16 x, on AMX where `amx`.
void cw_linear_quant(const void* x, long x_stride, long rows, int wide, const void* w,
                     const void* scales, long n, long k, int bits, const void* bias, void* out,
                     long wide_rows, int amx, int threads) {
    const Matrix in{(char*)x, x_stride, wide != 0}, result{(char*)out, n, wide != 0};
    const QuantWeights weights{(const uint8_t*)w, (const float*)scales, n, k};
    const float* add = (const float*)bias;
#ifdef CHUNKWISE_WIDENS
    if (!wide && rows >= wide_rows) {
        const Output output{result, rows, n, add, weights.row_scales, false};
        if (bits == 8) linear_wide(in, WidenedWeights<Int8>{weights}, output, amx, threads);
        else linear_wide(in, WidenedWeights<Int4>{weights}, output, amx, threads);
        return;
    }
#endif
    if (bits == 8) linear_pieces<Int8>(in, rows, weights, add, result, threads);
    else linear_pieces<Int4>(in, rows, weights, add, result, threads);
}
}
