// Linear layers: `x @ weight.T + bias`. Called from cpu_linear.py by address; threads: of OpenMP.
#include "linear_amx.h"
#include "linear_quant.h"
#include "linear_widen.h"

using namespace chunkwise_linear;

extern "C" {

// 1 where AMX tiles can be used: compiled in, and allowed by the operating system.
int cw_linear_has_tiles() {
#ifdef CHUNKWISE_AMX
    return tiles_allowed();
#else
    return 0;
#endif
}

// x (rows, k) bfloat16, rows x_stride apart; w (n, k) bfloat16; bias float32 or null;
// out (rows, n) bfloat16.
void cw_linear_bf16(const void* x, long x_stride, long rows, const void* w, long n, long k,
                    const void* bias, void* out, int threads) {
#ifdef CHUNKWISE_AMX
    const Matrix in{(char*)x, x_stride, false}, result{(char*)out, n, false};
    const DenseWeights weights{(const bf16*)w, n, k};
    const float* add = (const float*)bias;
    if (rows <= 32) linear_tiles(in, rows, weights, add, result, threads);
    else linear_tiles(in, rows, CopiedWeights{weights}, add, result, threads);
#endif
}

// x (rows, k), row `i` at i * x_stride elements, bfloat16 or (wide) float32; w: `bits` = 8 or 4, packed as
// linear_quant.h says; scales float32 for n up to a multiple of 32; out (rows, n) like x.
// From `tile_rows` rows on, bfloat16 x goes to AMX.
void cw_linear_quant(const void* x, long x_stride, long rows, int wide, const void* w,
                     const void* scales, long n, long k, int bits, const void* bias, void* out,
                     long tile_rows, int threads) {
    const Matrix in{(char*)x, x_stride, wide != 0}, result{(char*)out, n, wide != 0};
    const QuantWeights weights{(const uint8_t*)w, (const float*)scales, n, k};
    const float* add = (const float*)bias;
#ifdef CHUNKWISE_AMX
    if (!wide && rows >= tile_rows) {
        if (bits == 8) linear_tiles(in, rows, WidenedWeights<Int8>{weights}, add, result, threads);
        else linear_tiles(in, rows, WidenedWeights<Int4>{weights}, add, result, threads);
        return;
    }
#endif
    if (bits == 8) linear_pieces<Int8>(in, rows, weights, add, result, threads);
    else linear_pieces<Int4>(in, rows, weights, add, result, threads);
}
}
