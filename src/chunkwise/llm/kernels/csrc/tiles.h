// Blocks of products and vector helpers that attention is made of.
//
// A "lane" is a query row of one KV head: 16 lanes are one vector, W = 16 * NB lanes one block.
// All products here have the form C[i][lane] = sum_j A(i, j) * B[j][lane], so that keys and values
// are the left side, read from where they lie, and softmax runs down a column without any
// reduction across a vector.

#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "activation.h"
#include "amx.h"

namespace chunkwise {

using chunkwise_amx::transpose16;

inline __m512 load_floats(const float* x) { return _mm512_loadu_ps(x); }

inline __m512 load_floats(const bf16* x) {
  const __m256i raw = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(raw), 16));
}

inline void store_floats(float* x, __m512 v) { _mm512_storeu_ps(x, v); }

// Rounds to nearest even. VCVTNEPS2BF16 would flush denormals, which nothing here minds.
inline void store_floats(bf16* x, __m512 v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(x), (__m256i)_mm512_cvtneps_pbh(v));
}

inline void load16(__m512i r[16], const void* from, int64_t stride_bytes) {
  for (int i = 0; i < 16; ++i) {
    r[i] = _mm512_loadu_si512(static_cast<const char*>(from) + i * stride_bytes);
  }
}

// A matrix of bf16 in blocks of 16 rows x 32 columns: `row` elements from one row to the next
// inside a block, `down` from a block to the one below, `right` to the one on the right.
struct Blocks {
  const bf16* at;
  int64_t row, down, right;
};

// C (rows x W floats) = or += A (rows x depth) * B. B is in pairs: [depth / 2][W][2].
// rows and depth are multiples of 32.
template <int NB>
struct VectorProduct {
  static void run(Blocks a, const uint32_t* b, float* c, int rows, int depth, bool add) {
    constexpr int W = 16 * NB, R = 8;
    const int64_t stride = a.row * 2;  // bytes
    for (int i = 0; i < rows; i += R) {
      const char* top = reinterpret_cast<const char*>(a.at + (i / 16) * a.down + (i % 16) * a.row);
      __m512 sum[R][NB];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r)
        for (int n = 0; n < NB; ++n)
          sum[r][n] = add ? _mm512_loadu_ps(c + (i + r) * W + 16 * n) : _mm512_setzero_ps();
      for (int k = 0; k < depth; k += 32) {
        const char* upper = top + (k / 32) * a.right * 2;
        const char* lower = upper + 4 * stride;  // of two times four rows: few addresses to keep
        const uint32_t* row = b + k / 2 * W;
        for (int pair = 0; pair < 16; ++pair, upper += 4, lower += 4, row += W) {
          __m512bh right[NB];
          for (int n = 0; n < NB; ++n) right[n] = (__m512bh)_mm512_loadu_si512(row + 16 * n);
#pragma GCC unroll 8
          for (int r = 0; r < R; ++r) {
            int32_t two;
            std::memcpy(&two, (r < 4 ? upper : lower) + r % 4 * stride, sizeof two);
            const __m512bh left = (__m512bh)_mm512_set1_epi32(two);
            for (int n = 0; n < NB; ++n) sum[r][n] = _mm512_dpbf16_ps(sum[r][n], left, right[n]);
          }
        }
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r)
        for (int n = 0; n < NB; ++n) _mm512_storeu_ps(c + (i + r) * W + 16 * n, sum[r][n]);
    }
  }
};

#ifdef CHUNKWISE_AMX
// The same on tiles. The caller has set the tiles to 16 rows of 64 bytes.
template <int NB>
struct TileProduct {
  static void run(Blocks a, const uint32_t* b, float* c, int rows, int depth, bool add) {
    constexpr int W = 16 * NB;
    asm volatile("" ::: "memory");  // GCC does not know that tile loads read memory
    for (int i = 0; i < rows; i += 32) {
      const bf16* top = a.at + (i / 16) * a.down;
      float* out = c + i * W;
      start(out, add);
      for (int k = 0; k < depth; k += 32) {
        const bf16* block = top + (k / 32) * a.right;
        const uint32_t* row = b + (k / 2) * W;
        _tile_loadd(4, block, a.row * 2);
        _tile_loadd(6, row, W * 4);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(5, block + a.down, a.row * 2);
        _tile_dpbf16ps(2, 5, 6);
        if (NB == 2) {
          _tile_loadd(7, row + 16, W * 4);
          _tile_dpbf16ps(1, 4, 7);
          _tile_dpbf16ps(3, 5, 7);
        }
      }
      _tile_stored(0, out, W * 4);
      _tile_stored(2, out + 16 * W, W * 4);
      if (NB == 2) {
        _tile_stored(1, out + 16, W * 4);
        _tile_stored(3, out + 16 * W + 16, W * 4);
      }
    }
    asm volatile("" ::: "memory");
  }

 private:
  static void start(const float* c, bool add) {
    constexpr int W = 16 * NB;
    if (!add) {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      return;
    }
    _tile_loadd(0, c, W * 4);
    _tile_loadd(2, c + 16 * W, W * 4);
    if (NB == 2) {
      _tile_loadd(1, c + 16, W * 4);
      _tile_loadd(3, c + 16 * W + 16, W * 4);
    }
  }
};
#endif

// The same for float32: A(i, j) = a[i * si + j * sj], B is [depth][W]. rows: a multiple of 8.
template <int NB>
inline void float_product(const float* a, int64_t si, int64_t sj, const float* b, float* c,
                          int rows, int depth, bool add) {
  constexpr int W = 16 * NB, R = 8;
  for (int i = 0; i < rows; i += R) {
    __m512 sum[R][NB];
    for (int r = 0; r < R; ++r)
      for (int n = 0; n < NB; ++n)
        sum[r][n] = add ? _mm512_loadu_ps(c + (i + r) * W + 16 * n) : _mm512_setzero_ps();
    for (int j = 0; j < depth; ++j) {
      __m512 right[NB];
      for (int n = 0; n < NB; ++n) right[n] = _mm512_loadu_ps(b + j * W + 16 * n);
      for (int r = 0; r < R; ++r) {
        const __m512 left = _mm512_set1_ps(a[(i + r) * si + j * sj]);
        for (int n = 0; n < NB; ++n) sum[r][n] = _mm512_fmadd_ps(left, right[n], sum[r][n]);
      }
    }
    for (int r = 0; r < R; ++r)
      for (int n = 0; n < NB; ++n) _mm512_storeu_ps(c + (i + r) * W + 16 * n, sum[r][n]);
  }
}

// Values `(keys, D)` to blocks of their transpose, 16 channels x 32 keys each, 1 KB a block; the
// blocks of 16 channels lie `stride` blocks apart. Keys from `n` on, and channels from D on, are 0.
inline void transpose_values(const bf16* v, int64_t D, int n, bf16* out, int64_t stride) {
  __m512i low, high;
  {
    alignas(64) uint16_t index[64];
    for (int c = 0; c < 16; ++c) {
      index[2 * c] = c, index[2 * c + 1] = 32 + c;
      index[32 + 2 * c] = 16 + c, index[33 + 2 * c] = 48 + c;
    }
    low = _mm512_load_si512(index);
    high = _mm512_load_si512(index + 32);
  }
  for (int key = 0; key < n; key += 32) {
    for (int64_t d = 0; d < D; d += 32) {
      const __mmask32 channels = D - d >= 32 ? 0xffffffffu : 0xffffu;
      __m512i first[16], second[16];
      for (int pair = 0; pair < 16; ++pair) {
        const int at = key + 2 * pair;
        const __mmask32 even = at < n ? channels : 0, odd = at + 1 < n ? channels : 0;
        const __m512i a = _mm512_maskz_loadu_epi16(even, v + at * D + d);
        const __m512i b = _mm512_maskz_loadu_epi16(odd, v + (at + 1) * D + d);
        first[pair] = _mm512_permutex2var_epi16(a, low, b);
        second[pair] = _mm512_permutex2var_epi16(a, high, b);
      }
      transpose16(first);
      transpose16(second);
      bf16* block = out + ((d / 16) * stride + key / 32) * 512;
      for (int r = 0; r < 16; ++r) {
        _mm512_storeu_si512(block + r * 32, first[r]);
        _mm512_storeu_si512(block + stride * 512 + r * 32, second[r]);
      }
    }
  }
}

}  // namespace chunkwise
