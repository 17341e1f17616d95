// Exponentials, rounding and SwiGLU on vectors.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace chunkwise {

using bf16 = uint16_t;

// 2^x for x <= about 0, relative error 1e-4 (coarse: enough for weights rounded to bf16) or 2e-7.
template <bool COARSE>
inline __m512 exp2_of(__m512 x) {
  const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 f = _mm512_sub_ps(x, whole);
  __m512 p;
  if (COARSE) {
    p = _mm512_set1_ps(0.05587100f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.24259823f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.69312103f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.99992496f));
  } else {
    p = _mm512_set1_ps(1.5403530e-4f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.3333558e-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.6181291e-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.5504109e-2f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.4022651e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.9314718e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
  }
  return _mm512_scalef_ps(p, whole);
}

// Rounded to the type and back.
template <typename T>
inline __m512 rounded(__m512 x) {
  if constexpr (sizeof(T) == 4) return x;
  const __m256i raw = (__m256i)_mm512_cvtneps_pbh(x);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(raw), 16));
}

// silu(g) * u, silu rounded to the type in between as the reference does.
template <typename T>
inline __m512 gated(__m512 gate, __m512 up) {
  const __m512 power = exp2_of<false>(_mm512_min_ps(
      _mm512_mul_ps(gate, _mm512_set1_ps(-1.44269504f)), _mm512_set1_ps(126.f)));
  const __m512 one = _mm512_set1_ps(1.f);
  return _mm512_mul_ps(rounded<T>(_mm512_div_ps(gate, _mm512_add_ps(one, power))), up);
}

}  // namespace chunkwise
