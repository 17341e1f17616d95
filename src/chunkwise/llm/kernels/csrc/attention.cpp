// Attention of a packed batch over segments of keys and values; see `attend` in kernels/ops.py.
//
// Parts (segments) that the same rows look at form a chain, worked through as one run of keys: the
// running maximum, sum and output are carried from segment to segment and only the query is turned
// anew, so that many segments cost what one costs. Rows that are in several chains, and chains cut
// along their keys to keep all threads busy, leave partial results that are merged by log-sum-exp.

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>
#include <vector>

#include "schedule.h"
#include "tiles.h"

namespace chunkwise {
namespace {

// Attention of some rows and one KV head over some keys of a chain.
template <typename T, template <int> class Product, int NB>
class Worker {
  static constexpr int W = 16 * NB;
  static constexpr bool BF16 = sizeof(T) == 2;

 public:
  Worker(const Call& call, const Schedule& schedule, const Item& item, Buffer& buffer)
      : call_(call), schedule_(schedule), item_(item), chain_(call.plan->chains[item.chain]) {
    D_ = call.size, wide_ = padded<T>(D_), group_ = call.heads / call.kv_heads;
    lanes_ = (item.end_row - item.row) * group_;
    blocks_ = (lanes_ + W - 1) / W;
    const int64_t units = (BF16 ? wide_ / 2 : D_) * W;  // 32-bit words of a block of queries
    char* at = buffer.room((blocks_ * (units + wide_ * W + 4 * W) + 2 * KEYS * W + wide_ * W) * 4 +
                           2 * KEYS * (wide_ + 32) * sizeof(T) + NB * KEYS * 2 + 4096);
    auto take = [&at](size_t bytes) { return std::exchange(at, at + (bytes + 63) / 64 * 64); };
    scores_ = reinterpret_cast<float*>(take(KEYS * W * 4));
    weights_ = reinterpret_cast<uint32_t*>(take(KEYS * W * 4));
    values_ = reinterpret_cast<T*>(take(KEYS * wide_ * sizeof(T)));
    keys_ = reinterpret_cast<T*>(take(KEYS * wide_ * sizeof(T)));
    turned_ = reinterpret_cast<T*>(take(W * wide_ * sizeof(T)));
    queries_ = reinterpret_cast<uint32_t*>(take(blocks_ * units * 4));
    sums_ = reinterpret_cast<float*>(take(blocks_ * wide_ * W * 4));
    top_ = reinterpret_cast<float*>(take(blocks_ * W * 4));
    total_ = reinterpret_cast<float*>(take(blocks_ * W * 4));
    low_ = reinterpret_cast<int32_t*>(take(blocks_ * W * 4));
    high_ = reinterpret_cast<int32_t*>(take(blocks_ * W * 4));
    hidden_ = reinterpret_cast<uint16_t*>(take(NB * KEYS * 2));
    query_words_ = units;
  }

  void run() {
    std::fill(sums_, sums_ + blocks_ * wide_ * W, 0.f);
    std::fill(top_, top_ + blocks_ * W, NOTHING);
    std::fill(total_, total_ + blocks_ * W, 0.f);
    int64_t before = 0;
    for (int64_t p = chain_.first_part; p < chain_.end_part; ++p) {
      const Part& part = call_.plan->parts[p];
      const int64_t first = std::max<int64_t>(0, item_.key - before);
      const int64_t end = std::min(part.num_keys, item_.end_key - before);
      const bool is_last = p + 1 == chain_.end_part || before + part.num_keys >= item_.end_key;
      if (first < end) see(part, is_last ? nullptr : &part + 1, first, end);
      before += part.num_keys;
    }
    finish();
  }

 private:
  // What a block of lanes sees of a part: keys low <= j < high, and the extremes over lanes.
  struct Range {
    int64_t min_low, max_low, min_high, max_high;
  };

  // `following`: the part that is seen next, or null.
  void see(const Part& part, const Part* following, int64_t first, int64_t end) {
    Range ranges[MAX_LANES / 16 + 1];
    int64_t from = end, to = first;
    for (int64_t b = 0; b < blocks_; ++b) {
      ranges[b] = set_limits(part, b, first, end);
      if (ranges[b].max_high <= ranges[b].min_low) {
        ranges[b].max_high = 0;  // under the window no lane sees a key
        continue;
      }
      turn_queries(part, b);
      from = std::min(from, ranges[b].min_low), to = std::max(to, ranges[b].max_high);
    }
    const T *k = keys_of(part), *v = values_of(part);
    // Few lanes wait for memory: smaller blocks.
    const int64_t keys_a_step = lanes_ <= 16 ? FEW_KEYS : KEYS;
    for (int64_t key = from; key < to; key += keys_a_step) {
      const int n = std::min(keys_a_step, to - key);
      if (key + n < to) {
        aim(part, key + n, std::min(keys_a_step, to - key - n));
      } else if (following) {
        aim(*following, 0, std::min(keys_a_step, following->num_keys));
      } else {
        ahead_.size = 0;
      }
      const T* keys = key_block(k, key, n, part.capacity);
      fetch();
      if constexpr (BF16) transpose_values(v + key * D_, D_, n, values_, KEYS / 32);
      for (int64_t b = 0; b < blocks_; ++b) {
        const Range& range = ranges[b];
        const int seen = std::min<int64_t>(n, range.max_high - key);
        if (seen <= 0 || key + n <= range.min_low) continue;
        has_hidden_ = part.hides && set_hidden(part, b, key, seen);
        step(b, range, keys, v + key * D_, key, seen);
      }
    }
  }

  const T* keys_of(const Part& part) const { return static_cast<const T*>(part.k) + start(part); }
  const T* values_of(const Part& part) const { return static_cast<const T*>(part.v) + start(part); }
  int64_t start(const Part& part) const {
    return call_.layer * part.layer_stride + item_.head * part.capacity * D_;
  }

  // While a block of keys is seen the next one is fetched, a share of it before each part of the work:
  // all at once they would stand in each other's way.
  void aim(const Part& part, int64_t key, int64_t count) {
    ahead_.from[0] = reinterpret_cast<const char*>(keys_of(part) + key * D_);
    ahead_.from[1] = reinterpret_cast<const char*>(values_of(part) + key * D_);
    ahead_.size = count * D_ * sizeof(T);
    ahead_.done = 0;
    ahead_.share = (2 * ahead_.size / (1 + 3 * blocks_) + 63) / 64 * 64;
  }

  void fetch() {
    const int64_t size = ahead_.size, to = std::min(ahead_.done + ahead_.share, 2 * size);
    for (int64_t& at = ahead_.done; at < to; at += 64)
      _mm_prefetch(at < size ? ahead_.from[0] + at : ahead_.from[1] + at - size, _MM_HINT_T1);
  }

  Range set_limits(const Part& part, int64_t b, int64_t first, int64_t end) {
    Range range{INT64_MAX, 0, INT64_MAX, 0};
    const int64_t count = std::min<int64_t>(W, lanes_ - b * W);
    for (int64_t lane = 0; lane < count; ++lane) {
      const int64_t entry = part.first_entry + item_.row + (b * W + lane) / group_;
      const int64_t oldest = call_.plan->rel[entry] - part.start - call_.window + 1;
      const int64_t low = std::max(first, call_.window ? oldest : 0);
      const int64_t high = std::min(end, call_.plan->limit[entry]);
      low_[b * W + lane] = low, high_[b * W + lane] = high;
      range.min_low = std::min(range.min_low, low), range.max_low = std::max(range.max_low, low);
      range.min_high = std::min(range.min_high, high);
      range.max_high = std::max(range.max_high, high);
    }
    for (int64_t lane = count; lane < W; ++lane)  // lanes without a row see what the others see
      low_[b * W + lane] = range.min_low, high_[b * W + lane] = range.max_high;
    return range;
  }

  // Which lanes do not see which keys of a block, as masks of 16 lanes; false if all see all. Lanes
  // of one row, and mostly rows next to each other, have the same set.
  bool set_hidden(const Part& part, int64_t b, int64_t key, int n) {
    std::memset(hidden_, 0, NB * KEYS * 2);
    const int64_t count = std::min<int64_t>(W, lanes_ - b * W);
    bool any = false;
    const auto set_of = [&](int64_t lane) {
      return call_.plan->hidden[part.first_entry + item_.row + (b * W + lane) / group_];
    };
    for (int64_t lane = 0, next; lane < count; lane = next) {
      const int64_t set = set_of(lane), edge = std::min(count, lane / 16 * 16 + 16);
      for (next = lane + 1; next < edge && set_of(next) == set;) ++next;
      if (set < 0) continue;
      const uint16_t lanes = ((1u << (next - lane)) - 1) << lane % 16;
      const uint8_t* hides = part.hides + set * part.capacity + key;
      uint16_t* masks = hidden_ + lane / 16 * KEYS;
      for (int j = 0; j < n; ++j) masks[j] |= hides[j] ? lanes : 0, any |= hides[j];
    }
    return any;
  }

  // Query rows turned to their positions and rounded, as the right side of a product.
  void turn_queries(const Part& part, int64_t b) {
    const int64_t half = D_ / 2, count = std::min<int64_t>(W, lanes_ - b * W);
    std::memset(turned_, 0, W * wide_ * sizeof(T));
    for (int64_t lane = 0; lane < count; ++lane) {
      const int64_t row = item_.row + (b * W + lane) / group_, g = (b * W + lane) % group_;
      const T* q = static_cast<const T*>(call_.q) +
                   call_.plan->chain_rows[chain_.first_row + row] * call_.q_stride +
                   (item_.head * group_ + g) * D_;
      const int64_t at = call_.plan->rel[part.first_entry + row] * half;
      rotate(q, call_.cos + at, call_.sin + at, half, turned_ + lane * wide_);
    }
    uint32_t* out = queries_ + b * query_words_;
    const int64_t words = query_words_ / W;
    for (int n = 0; n < NB; ++n)
      for (int64_t word = 0; word < words; word += 16) {
        __m512i r[16];
        load16(r, reinterpret_cast<uint32_t*>(turned_ + 16 * n * wide_) + word, wide_ * sizeof(T));
        transpose16(r);
        for (int i = 0; i < 16; ++i) _mm512_storeu_si512(out + (word + i) * W + 16 * n, r[i]);
      }
  }

  // Where a block of keys can be read: in its place, or copied where rows must be padded or where
  // a whole block would reach beyond the segment.
  const T* key_block(const T* k, int64_t key, int n, int64_t capacity) {
    if (wide_ == D_ && key + (n + 31) / 32 * 32 <= capacity) return k + key * D_;
    for (int i = 0; i < (n + 31) / 32 * 32; ++i) {
      T* row = keys_ + i * wide_;
      std::memset(row, 0, wide_ * sizeof(T));
      if (i < n) std::memcpy(row, k + (key + i) * D_, D_ * sizeof(T));
    }
    return keys_;
  }

  // One block of keys for one block of lanes.
  void step(int64_t b, const Range& range, const T* k, const T* v, int64_t key, int n) {
    const int whole = (n + 31) / 32 * 32;
    float* sums = sums_ + b * wide_ * W;
    const uint32_t* q = queries_ + b * query_words_;
    fetch();
    if constexpr (BF16) {
      Product<NB>::run({k, wide_, 16 * wide_, 32}, q, scores_, whole, wide_, false);
    } else {
      float_product<NB>(k, wide_, 1, reinterpret_cast<const float*>(q), scores_, whole, wide_, false);
    }
    fetch();
    soften(b, range, key, whole, sums);
    fetch();
    if constexpr (BF16) {
      Product<NB>::run({values_, 32, KEYS / 32 * 512, 512}, weights_, sums, wide_, whole, true);
    } else {
      float_product<NB>(v, 1, D_, reinterpret_cast<float*>(weights_), sums, D_, n, true);
    }
  }

  // Scores to weights, online: raises the running maximum and rescales what was summed before.
  void soften(int64_t b, const Range& range, int64_t key, int n, float* sums) {
    const __m512 factor = _mm512_set1_ps(call_.scale * LOG2E);
    for (int c = 0; c < NB; ++c) {
      const __m512i low = _mm512_loadu_si512(low_ + b * W + 16 * c);
      const __m512i high = _mm512_loadu_si512(high_ + b * W + 16 * c);
      const float* scores = scores_ + 16 * c;
      float *top_at = top_ + b * W + 16 * c, *total_at = total_ + b * W + 16 * c;
      const __m512 before = _mm512_loadu_ps(top_at);
      const uint16_t* hidden = has_hidden_ ? hidden_ + c * KEYS : nullptr;
      const __m512 top = highest(range, low, high, scores, key, n, before, hidden);
      const __m512 shift = _mm512_mul_ps(top, factor);
      __m512 totals[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
      for (int j = 0; j < n; j += 32) {
        const bool all = !hidden && open(range, key + j);
        for (int i = j; i < j + 32; i += 2) {
          __m512 one = weight(scores + i * W, factor, shift);
          __m512 two = weight(scores + (i + 1) * W, factor, shift);
          if (!all) {
            one = _mm512_maskz_mov_ps(seen(low, high, key + i) & shown(hidden, i), one);
            two = _mm512_maskz_mov_ps(seen(low, high, key + i + 1) & shown(hidden, i + 1), two);
          }
          totals[0] = _mm512_add_ps(totals[0], one);
          totals[1] = _mm512_add_ps(totals[1], two);
          put_weights(i, c, one, two);
        }
      }
      const __m512 sum = _mm512_add_ps(totals[0], totals[1]);
      const __m512 keep = exp2_of<false>(_mm512_mul_ps(_mm512_sub_ps(before, top), factor));
      _mm512_storeu_ps(top_at, top);
      _mm512_storeu_ps(total_at, _mm512_fmadd_ps(_mm512_loadu_ps(total_at), keep, sum));
      if (_mm512_cmp_ps_mask(keep, _mm512_set1_ps(1.f), _CMP_NEQ_UQ)) {
        for (int64_t d = 0; d < wide_; ++d) {
          float* at = sums + d * W + 16 * c;
          _mm512_storeu_ps(at, _mm512_mul_ps(_mm512_loadu_ps(at), keep));
        }
      }
    }
  }

  // The highest visible score of each lane, at least `top`.
  static __m512 highest(const Range& range, __m512i low, __m512i high, const float* scores,
                        int64_t key, int n, __m512 top, const uint16_t* hidden) {
    __m512 other = top;
    for (int j = 0; j < n; j += 32) {
      const float* at = scores + j * W;
      if (!hidden && open(range, key + j)) {
        for (int i = 0; i < 32; i += 2) {
          top = _mm512_max_ps(top, _mm512_loadu_ps(at + i * W));
          other = _mm512_max_ps(other, _mm512_loadu_ps(at + (i + 1) * W));
        }
      } else {
        for (int i = 0; i < 32; ++i)
          top = _mm512_mask_max_ps(top, seen(low, high, key + j + i) & shown(hidden, j + i), top,
                                   _mm512_loadu_ps(at + i * W));
      }
    }
    return _mm512_max_ps(top, other);
  }

  // Whether all lanes see all of the 32 keys from `key` on.
  static bool open(const Range& range, int64_t key) {
    return key >= range.max_low && key + 32 <= range.min_high;
  }

  static __mmask16 seen(__m512i low, __m512i high, int64_t key) {
    const __m512i at = _mm512_set1_epi32(static_cast<int32_t>(key));
    return _mm512_mask_cmpgt_epi32_mask(_mm512_cmple_epi32_mask(low, at), high, at);
  }

  static __mmask16 shown(const uint16_t* hidden, int i) {
    return hidden ? static_cast<__mmask16>(~hidden[i]) : static_cast<__mmask16>(0xffff);
  }

  static __m512 weight(const float* score, __m512 factor, __m512 shift) {
    return exp2_of<BF16>(_mm512_fmsub_ps(_mm512_loadu_ps(score), factor, shift));
  }

  void put_weights(int key, int c, __m512 one, __m512 two) {
    if constexpr (BF16) {
      const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9,
                                             24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1,
                                             16, 0);
      const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(two, one);
      _mm512_storeu_si512(weights_ + key / 2 * W + 16 * c, _mm512_permutexvar_epi16(order, both));
    } else {
      _mm512_storeu_ps(reinterpret_cast<float*>(weights_) + key * W + 16 * c, one);
      _mm512_storeu_ps(reinterpret_cast<float*>(weights_) + (key + 1) * W + 16 * c, two);
    }
  }

  static void rotate(const T* x, const float* cos, const float* sin, int64_t half, T* out) {
    int64_t i = 0;
    for (; i + 16 <= half; i += 16) {
      const __m512 a = load_floats(x + i), b = load_floats(x + half + i);
      const __m512 c = _mm512_loadu_ps(cos + i), s = _mm512_loadu_ps(sin + i);
      store_floats(out + i, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
      store_floats(out + half + i, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
    }
    for (; i < half; ++i) {
      const float a = one_float(x[i]), b = one_float(x[half + i]);
      out[i] = one_number<T>(a * cos[i] - b * sin[i]);
      out[half + i] = one_number<T>(b * cos[i] + a * sin[i]);
    }
  }

  void finish() {
    for (int64_t b = 0; b < blocks_; ++b)
      for (int c = 0; c < NB; ++c) {
        const __m512 total = _mm512_loadu_ps(total_ + b * W + 16 * c);
        const __mmask16 some = _mm512_cmp_ps_mask(total, _mm512_setzero_ps(), _CMP_NEQ_UQ);
        const __m512 share = _mm512_maskz_div_ps(some, _mm512_set1_ps(1.f), total);
        for (int64_t d = 0; d < D_; d += 16) {
          __m512i r[16];
          load16(r, sums_ + (b * wide_ + d) * W + 16 * c, W * 4);
          for (int i = 0; i < 16; ++i)
            r[i] = _mm512_castps_si512(_mm512_mul_ps(_mm512_castsi512_ps(r[i]), share));
          transpose16(r);
          const int64_t count = std::min<int64_t>(16, lanes_ - b * W - 16 * c);
          for (int64_t i = 0; i < count; ++i) put(b * W + 16 * c + i, d, _mm512_castsi512_ps(r[i]));
        }
      }
  }

  // 16 channels of a finished row: to the output, or as a partial result with its log-sum-exp.
  void put(int64_t lane, int64_t d, __m512 x) {
    const int64_t i = item_.row + lane / group_, head = item_.head * group_ + lane % group_;
    const int64_t row = call_.plan->chain_rows[chain_.first_row + i];
    const int64_t splits = schedule_.splits[item_.chain];
    const int64_t* first = call_.plan->row_first + row;
    if (first[1] - first[0] == 1 && splits == 1) {
      store_floats(static_cast<T*>(call_.out) + (row * call_.heads + head) * D_ + d, x);
      return;
    }
    const int64_t slot = schedule_.first_slot[item_.chain] + i * splits + item_.split;
    store_floats(schedule_.out + (slot * call_.heads + head) * D_ + d, x);
    const float total = total_[lane];
    schedule_.lse[slot * call_.heads + head] =
        total == 0.f ? NOTHING : top_[lane] * float(call_.scale * LOG2E) + std::log2(total);
  }

  static float one_float(float x) { return x; }
  static float one_float(bf16 x) {
    const uint32_t bits = uint32_t(x) << 16;
    float out;
    std::memcpy(&out, &bits, 4);
    return out;
  }
  template <typename U>
  static U one_number(float x) {
    if constexpr (sizeof(U) == 4) {
      return x;
    } else {
      return _mm_extract_epi16((__m128i)_mm_cvtneps_pbh(_mm_set_ss(x)), 0);
    }
  }

  const Call& call_;
  const Schedule& schedule_;
  const Item& item_;
  const Chain& chain_;
  int64_t D_, wide_, group_, lanes_, blocks_, query_words_;
  float *scores_, *sums_, *top_, *total_;
  uint32_t *weights_, *queries_;
  T *values_, *keys_, *turned_;
  struct {
    const char* from[2];  // keys, values: of each `size` bytes
    int64_t size, done, share;
  } ahead_ = {};
  int32_t *low_, *high_;
  uint16_t* hidden_;  // (NB, KEYS), of the block at hand
  bool has_hidden_ = false;
};

// Merge the partial results of one row.
template <typename T>
void merge_row(const Call& call, const Schedule& schedule, int64_t row) {
  const Plan& plan = *call.plan;
  const int64_t first = plan.row_first[row], end = plan.row_first[row + 1], D = call.size;
  if (end - first == 1 && schedule.splits[plan.entry_chain[plan.row_entries[first]]] == 1) return;
  thread_local std::vector<int64_t> slots;
  slots.clear();
  for (int64_t e = first; e < end; ++e) {
    const int64_t entry = plan.row_entries[e], chain = plan.entry_chain[entry];
    const int64_t splits = schedule.splits[chain];
    const int64_t slot = schedule.first_slot[chain] + (entry - plan.chains[chain].first_row) * splits;
    for (int64_t s = 0; s < splits; ++s) slots.push_back(slot + s);
  }
  for (int64_t head = 0; head < call.heads; ++head) {
    const auto lse = [&](int64_t slot) { return schedule.lse[slot * call.heads + head]; };
    float top = NOTHING, total = 0;
    for (int64_t slot : slots) top = std::max(top, lse(slot));
    for (int64_t slot : slots) total += lse(slot) == NOTHING ? 0.f : std::exp2(lse(slot) - top);
    T* out = static_cast<T*>(call.out) + (row * call.heads + head) * D;
    for (int64_t d = 0; d < D; d += 16) {
      __m512 sum = _mm512_setzero_ps();
      for (int64_t slot : slots) {
        if (lse(slot) == NOTHING) continue;
        const float share = std::exp2(lse(slot) - top) / total;
        const float* part = schedule.out + (slot * call.heads + head) * D + d;
        sum = _mm512_fmadd_ps(_mm512_set1_ps(share), _mm512_loadu_ps(part), sum);
      }
      store_floats(out + d, sum);
    }
  }
}

template <typename T, template <int> class Product>
void run_items(const Call& call, const Schedule& schedule) {
  thread_local Buffer buffer;
  const int64_t count = schedule.items.size(), group = call.heads / call.kv_heads;
#pragma omp for schedule(dynamic, 1)
  for (int64_t i = 0; i < count; ++i) {
    const Item& item = schedule.items[i];
    if ((item.end_row - item.row) * group <= 16) {
      Worker<T, Product, 1>(call, schedule, item, buffer).run();
    } else {
      Worker<T, Product, 2>(call, schedule, item, buffer).run();
    }
  }
#pragma omp for schedule(static)
  for (int64_t row = 0; row < call.plan->num_rows; ++row) merge_row<T>(call, schedule, row);
}

void run_bf16(const Call& call, const Schedule& schedule, bool tiles) {
#ifdef CHUNKWISE_AMX
  if (tiles) {
    const chunkwise_amx::Tiles configured;
    run_items<bf16, TileProduct>(call, schedule);
    return;
  }
#endif
  (void)tiles;
  run_items<bf16, VectorProduct>(call, schedule);
}

}  // namespace
}  // namespace chunkwise

extern "C" {

int chunkwise_attention_tiles() { return chunkwise_amx::tiles_allowed(); }

// `flags`: 1 keeps to vectors where tiles could be used (for tests).
void chunkwise_attend(const chunkwise::Call* given, int flags) {
  using namespace chunkwise;
  const Call& call = *given;
  thread_local Schedule schedule;
  thread_local Buffer partials;
  make_items(call, schedule);
  const size_t results = schedule.slots * call.heads;
  schedule.out = reinterpret_cast<float*>(partials.room(results * (call.size + 1) * 4));
  schedule.lse = schedule.out + results * call.size;
  const bool tiles = !(flags & 1) && chunkwise_amx::tiles_allowed();
  const Schedule& shared = schedule;
#pragma omp parallel num_threads(call.threads)
  {
    if (call.is_bf16) {
      run_bf16(call, shared, tiles);
    } else {
      run_items<float, VectorProduct>(call, shared);
    }
  }
}
}
