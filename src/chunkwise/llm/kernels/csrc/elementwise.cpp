// Norms, SwiGLU and the writing of keys and values: one pass over memory each.

#include <cmath>

#include "tiles.h"

namespace chunkwise {
namespace {

constexpr int64_t SERIAL = 1 << 15;  // below so many numbers a second thread costs more than it gives

struct Write {
  void *k, *v;
  int64_t layer_stride, capacity, row, offset, rel;
};

struct Writing {
  const Write* writes;
  const int64_t* write_of_row;
  const void *k, *v;
  const float *cos, *sin;
  int64_t num_rows, k_stride, v_stride, layer, kv_heads, size, threads, is_bf16;
};
template <typename T>
__m512 some_floats(const T* x, __mmask16 mask) {
  if constexpr (sizeof(T) == 4) {
    return _mm512_maskz_loadu_ps(mask, x);
  } else {
    const __m256i raw = _mm256_maskz_loadu_epi16(mask, x);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(raw), 16));
  }
}

template <typename T>
void put_some(T* x, __mmask16 mask, __m512 v) {
  if constexpr (sizeof(T) == 4) {
    _mm512_mask_storeu_ps(x, mask, v);
  } else {
    _mm256_mask_storeu_epi16(x, mask, (__m256i)_mm512_cvtneps_pbh(v));
  }
}

__mmask16 mask_of(int64_t left) { return left >= 16 ? 0xffff : (1u << left) - 1; }

// One row. With `residual`, first x + residual rounded to the type, which goes to `residual`.
template <typename T>
void norm_row(const T* x, T* residual, const T* weight, T* out, int64_t width, float eps) {
  __m512 squares = _mm512_setzero_ps();
  for (int64_t i = 0; i < width; i += 16) {
    const __mmask16 mask = mask_of(width - i);
    __m512 v = some_floats(x + i, mask);
    if (residual) {
      v = rounded<T>(_mm512_add_ps(v, some_floats(residual + i, mask)));
      put_some(residual + i, mask, v);
    }
    squares = _mm512_fmadd_ps(v, v, squares);
  }
  const T* from = residual ? residual : x;
  const float mean = _mm512_reduce_add_ps(squares) / width;
  const __m512 scale = _mm512_set1_ps(1.f / std::sqrt(mean + eps));
  for (int64_t i = 0; i < width; i += 16) {
    const __mmask16 mask = mask_of(width - i);
    const __m512 v = rounded<T>(_mm512_mul_ps(some_floats(from + i, mask), scale));
    put_some(out + i, mask, _mm512_mul_ps(v, some_floats(weight + i, mask)));
  }
}

struct Norm {
  const void* x;
  void* residual;
  const void* weight;
  void* out;
  int64_t rows, inner, row_stride, inner_stride, width, threads, is_bf16;
  double eps;
};

template <typename T>
void norm_rows(const Norm& n) {
  const int64_t count = n.rows * n.inner;
#pragma omp parallel for num_threads(n.threads) if (count * n.width > SERIAL)
  for (int64_t i = 0; i < count; ++i) {
    const T* x = static_cast<const T*>(n.x) + i / n.inner * n.row_stride + i % n.inner * n.inner_stride;
    T* residual = n.residual ? static_cast<T*>(n.residual) + i * n.width : nullptr;
    T* out = static_cast<T*>(n.out) + i * n.width;
    norm_row(x, residual, static_cast<const T*>(n.weight), out, n.width, n.eps);
  }
}

template <typename T>
void silu_rows(const T* x, T* out, int64_t rows, int64_t width, int64_t stride, int64_t threads) {
#pragma omp parallel for num_threads(threads) if (rows * width > SERIAL)
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t i = 0; i < width; i += 16) {
      const __mmask16 mask = mask_of(width - i);
      const T* at = x + row * stride + i;
      put_some(out + row * width + i, mask,
               gated<T>(some_floats(at, mask), some_floats(at + width, mask)));
    }
}

template <typename T>
void write_row(const Writing& w, int64_t row) {
  if (w.write_of_row[row] < 0) return;
  const Write& to = w.writes[w.write_of_row[row]];
  const int64_t key = to.offset + row - to.row, half = w.size / 2;
  const float* cos = w.cos + (to.rel + row - to.row) * half;
  const float* sin = w.sin + (to.rel + row - to.row) * half;
  for (int64_t head = 0; head < w.kv_heads; ++head) {
    const int64_t at = w.layer * to.layer_stride + (head * to.capacity + key) * w.size;
    const T* k = static_cast<const T*>(w.k) + row * w.k_stride + head * w.size;
    const T* v = static_cast<const T*>(w.v) + row * w.v_stride + head * w.size;
    T* out = static_cast<T*>(to.k) + at;
    for (int64_t i = 0; i < half; i += 16) {
      const __mmask16 mask = mask_of(half - i);
      const __m512 a = some_floats(k + i, mask), b = some_floats(k + half + i, mask);
      const __m512 c = _mm512_maskz_loadu_ps(mask, cos + i), s = _mm512_maskz_loadu_ps(mask, sin + i);
      put_some(out + i, mask, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
      put_some(out + half + i, mask, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
    }
    std::memcpy(static_cast<T*>(to.v) + at, v, w.size * sizeof(T));
  }
}

template <typename T>
void write_rows(const Writing& w) {
#pragma omp parallel for num_threads(w.threads) if (w.num_rows * w.kv_heads * w.size > SERIAL)
  for (int64_t row = 0; row < w.num_rows; ++row) write_row<T>(w, row);
}

}  // namespace
}  // namespace chunkwise

extern "C" {

void chunkwise_store(const chunkwise::Writing* call, int) {
  if (call->is_bf16) {
    chunkwise::write_rows<chunkwise::bf16>(*call);
  } else {
    chunkwise::write_rows<float>(*call);
  }
}

void chunkwise_norm(const chunkwise::Norm* call) {
  if (call->is_bf16) {
    chunkwise::norm_rows<chunkwise::bf16>(*call);
  } else {
    chunkwise::norm_rows<float>(*call);
  }
}

// Rows of `2 * width` numbers, `stride` from one to the next, to rows of `width`.
void chunkwise_silu_mul(const void* x, void* out, int64_t rows, int64_t width, int64_t stride,
                        int64_t threads, int is_bf16) {
  using namespace chunkwise;
  if (is_bf16) {
    silu_rows(static_cast<const bf16*>(x), static_cast<bf16*>(out), rows, width, stride, threads);
  } else {
    silu_rows(static_cast<const float*>(x), static_cast<float*>(out), rows, width, stride, threads);
  }
}
}
