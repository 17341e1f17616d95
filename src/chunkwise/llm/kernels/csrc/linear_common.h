// What the linear layers share: number formats, workspace, and how work is split over threads.
#pragma once
#include <immintrin.h>
#include <omp.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace chunkwise_linear {

using bf16 = uint16_t;

// Activations or results: `rows` rows of float32 or bfloat16, `stride` elements apart.
struct Matrix {
    char* data;
    long stride;
    bool wide;  // float32

    char* row(long i) const { return data + i * stride * (wide ? 4 : 2); }
};

inline __m512 widen(__m256i x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

// Elements k .. k + 15 of a row as float32; those from `end` on are zero.
inline __m512 load16(const Matrix& x, long row, long k, long end) {
    const __mmask16 mask = k + 16 <= end ? 0xffff : k < end ? (1u << (end - k)) - 1 : 0;
    if (x.wide) return _mm512_maskz_loadu_ps(mask, (const float*)x.row(row) + k);
    return widen(_mm256_maskz_loadu_epi16(mask, (const bf16*)x.row(row) + k));
}

// Writes elements n .. n + 15 of a row, but none from `end` on.
inline void store16(const Matrix& out, long row, long n, long end, __m512 value) {
    const __mmask16 mask = n + 16 <= end ? 0xffff : n < end ? (1u << (end - n)) - 1 : 0;
    if (out.wide) {
        _mm512_mask_storeu_ps((float*)out.row(row) + n, mask, value);
    } else {
        const __m256i narrow = (__m256i)_mm512_cvtneps_pbh(value);
        _mm256_mask_storeu_epi16((bf16*)out.row(row) + n, mask, narrow);
    }
}

// Scratch memory that a thread keeps between calls: fresh pages cost more than the work on them.
class Workspace {
   public:
    ~Workspace() { free(data_); }

    template <class T>
    T* get(size_t bytes) {
        if (bytes > size_) {
            free(data_);
            size_ = (bytes + kPage - 1) / kPage * kPage;
            data_ = aligned_alloc(kPage, size_);
            if (!data_) abort();
            madvise(data_, size_, MADV_HUGEPAGE);
        }
        return (T*)data_;
    }

   private:
    static constexpr size_t kPage = 2u << 20;
    void* data_ = nullptr;
    size_t size_ = 0;
};

// The part of `total` units that thread `index` of `count` does.
struct Share {
    long begin, end;
    Share(long total, int index, int count)
        : begin(total * index / count), end(total * (index + 1) / count) {}
};

inline long ceil_div(long a, long b) { return (a + b - 1) / b; }

}  // namespace chunkwise_linear
