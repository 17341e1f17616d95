// Widening of 8- and 4-bit weights to tiles of bfloat16, for products of many rows.
#pragma once
#include "linear_quant.h"
#include "linear_tiles.h"

#ifdef __AVX512VBMI__
#define CHUNKWISE_WIDENS 1
namespace chunkwise_linear {

// The bytes of bfloat16 0 .. 127, looked up by the number.
struct ByteTables {
    alignas(64) uint8_t low[128], high[128];
    ByteTables() {
        for (int i = 0; i < 128; i++) {
            const float value = (float)i;
            uint32_t bits;
            std::memcpy(&bits, &value, 4);
            low[i] = bits >> 16 & 255, high[i] = bits >> 24;
        }
    }
};

// Columns 0 4 1 5 (or 2 6 3 7) of 16 outputs to pairs (0, 1) and (4, 5): exact.
inline void widen_int8(__m512i w, const ByteTables& tables, __m512i& first, __m512i& second) {
    const __m512i number = _mm512_xor_si512(w, _mm512_set1_epi8((char)0x80));
    const __m512i size = _mm512_abs_epi8(number);
    const __m512i low = _mm512_permutex2var_epi8(_mm512_load_si512(tables.low), size,
                                                 _mm512_load_si512(tables.low + 64));
    const __m512i top = _mm512_permutex2var_epi8(_mm512_load_si512(tables.high), size,
                                                 _mm512_load_si512(tables.high + 64));
    const __m512i sign = _mm512_set1_epi8((char)0x80), even = _mm512_set1_epi16(0xff);
    const __m512i high = _mm512_ternarylogic_epi64(top, number, sign, 0xf8);  // a | b & c
    first = _mm512_ternarylogic_epi64(even, low, _mm512_slli_epi16(high, 8), 0xca);  // a ? b : c
    second = _mm512_ternarylogic_epi64(even, _mm512_srli_epi16(low, 8), high, 0xca);
}

inline void widen_group(Int8, const uint8_t* at, char* tile) {
    static const ByteTables tables;
    for (int j = 0; j < 4; j++) {
        __m512i row[4];
        widen_int8(_mm512_loadu_si512(at + 128 * j), tables, row[0], row[2]);
        widen_int8(_mm512_loadu_si512(at + 128 * j + 64), tables, row[1], row[3]);
        for (int i = 0; i < 4; i++) _mm512_store_si512(tile + 64 * (4 * j + i), row[i]);
    }
}

// Rounded to bfloat16 after the scale of the group; the scale of the row comes at the end.
inline void widen_group(Int4, const uint8_t* at, char* tile) {
    const __m512 scale = Int4::scale(at);
    alignas(64) static const uint16_t numbers[32] = {
        0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040, 0xc000, 0xbf80, 0, 0x3f80, 0x4000,
        0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0, 0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040,
        0xc000, 0xbf80, 0, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0};
    const __m512i table = _mm512_load_si512(numbers);
    const __m512i upper = _mm512_set1_epi32(0xffff0000), half = _mm512_set1_epi32(0x8000);
    for (int j = 0; j < 4; j++) {
        const __m512i packed = _mm512_loadu_si512(at + 64 * j);
        for (int i = 0; i < 4; i++) {
            const __m512i at_i = _mm512_srli_epi16(packed, 4 * i);
            const __m512i pair = _mm512_permutexvar_epi16(at_i, table);
            const __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16));
            const __m512 odd = _mm512_castsi512_ps(_mm512_and_si512(pair, upper));
            const __m512i a = _mm512_castps_si512(_mm512_mul_ps(even, scale));
            const __m512i b = _mm512_castps_si512(_mm512_mul_ps(odd, scale));
            const __m512i low = _mm512_srli_epi32(_mm512_add_epi32(a, half), 16);
            const __m512i high = _mm512_add_epi32(b, half);
            const __m512i both = _mm512_ternarylogic_epi64(upper, high, low, 0xca);
            _mm512_store_si512(tile + 64 * (4 * j + i), both);
        }
    }
}

// Tiles made of the weights of a block, in the L2 cache; long groups, since making them costs.
template <class Format>
struct WidenedWeights : QuantWeights {
    static constexpr long kPanels = 4 * kGroupPanels;
    static constexpr bool kInMemory = false;

    long scratch_bytes(long units) const { return units * groups() * kPair; }
    Block block(long u, long u_end, long from, long to, char* scratch) const {
        const long stride = (to - from) * kPair;
        for (long half = 2 * u; half < 2 * u_end; half++) {  // 16 outputs
            const uint8_t* at = data + (half * groups() + from) * Format::kBytes;
            char* tile = scratch + (half / 2 - u) * stride + half % 2 * kTileBytes;
            for (long g = from; g < to; g++, at += Format::kBytes, tile += kPair) {
                for (long ahead = 0; ahead < Format::kBytes; ahead += 64)
                    _mm_prefetch((const char*)at + 4096 + ahead, _MM_HINT_T0);
                widen_group(Format{}, at, tile);
            }
        }
        return {scratch, stride};
    }
};

}  // namespace chunkwise_linear
#endif
