// What there is to do in one call of attention: the plan as Python flattened it, and its cutting
// into work items for threads.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace chunkwise {
namespace {

constexpr int KEYS = 256;       // keys of one block of scores
constexpr int FEW_KEYS = 32;    // the same, where there are at most 16 lanes
constexpr int MAX_LANES = 512;  // stacked query rows of one work item
constexpr int MIN_SPLIT = 512;  // a chain is not cut into pieces of fewer keys
constexpr float NOTHING = -1e38f;
constexpr float LOG2E = 1.44269504f;

struct Part {
  const void *k, *v;
  int64_t layer_stride, capacity, start, num_keys, first_entry;  // entry: index of rel, limit, hidden
  const uint8_t* hides;  // sets of hidden keys, `capacity` bytes each; null: none
};

struct Chain {
  int64_t first_row, rows, first_part, end_part, num_keys;
};

struct Plan {
  const Part* parts;
  const Chain* chains;
  const int64_t *chain_rows, *rel, *limit, *hidden;
  const int64_t *row_first, *row_entries, *entry_chain;  // where each row is: indices of chain_rows
  int64_t num_rows, num_chains;
};


struct Call {
  const Plan* plan;
  const void* q;
  void* out;
  const float *cos, *sin;
  int64_t q_stride, layer, heads, kv_heads, size, window, threads, is_bf16;
  double scale;
};

struct Item {
  int64_t chain, head, row, end_row, key, end_key, split, cost;
};

// Memory of a thread, kept from call to call.
struct Buffer {
  char* at = nullptr;
  size_t size = 0;
  ~Buffer() { std::free(at); }
  char* room(size_t bytes) {
    if (bytes > size) {
      std::free(at);
      size = (bytes + bytes / 4 + 4095) / 4096 * 4096;
      at = static_cast<char*>(std::aligned_alloc(4096, size));
      std::memset(at, 0, size);
    }
    return at;
  }
};

struct Schedule {
  std::vector<Item> items;
  std::vector<int64_t> splits, first_slot;  // by chain
  int64_t slots = 0;
  float *out = nullptr, *lse = nullptr;  // (slots, H, D) and (slots, H), base 2
};

template <typename T>
int64_t padded(int64_t size) {
  return sizeof(T) == 2 ? (size + 31) / 32 * 32 : size;
}

void set_splits(const Call& call, Schedule& plan) {
  const int64_t group = call.heads / call.kv_heads, per_item = std::max<int64_t>(1, MAX_LANES / group);
  int64_t total = 0;
  for (int64_t c = 0; c < call.plan->num_chains; ++c) {
    const Chain& chain = call.plan->chains[c];
    total += call.kv_heads * chain.num_keys * ((chain.rows * group + 31) / 32);
  }
  const int64_t fair = std::max<int64_t>(1, total / (3 * call.threads));
  for (int64_t c = 0; c < call.plan->num_chains; ++c) {
    const Chain& chain = call.plan->chains[c];
    const int64_t rows = std::min(chain.rows, per_item);
    const int64_t cost = chain.num_keys * ((rows * group + 31) / 32);
    const int64_t most = std::max<int64_t>(1, chain.num_keys / MIN_SPLIT);
    const int64_t splits = std::min(most, (cost + fair - 1) / fair);
    plan.splits.push_back(splits);
    plan.first_slot.push_back(plan.slots);
    plan.slots += chain.rows * splits;
  }
}

void make_items(const Call& call, Schedule& plan) {
  const int64_t group = call.heads / call.kv_heads, per_item = std::max<int64_t>(1, MAX_LANES / group);
  plan.items.clear();
  plan.splits.clear();
  plan.first_slot.clear();
  plan.slots = 0;
  set_splits(call, plan);
  for (int64_t c = 0; c < call.plan->num_chains; ++c) {
    const Chain& chain = call.plan->chains[c];
    const int64_t splits = plan.splits[c];
    for (int64_t row = 0; row < chain.rows; row += per_item) {
      const int64_t end = std::min(row + per_item, chain.rows);
      // The keys that the last row sees stand for the work: limits rise along a prompt.
      const Part& last = call.plan->parts[chain.end_part - 1];
      const int64_t sees = chain.num_keys - last.num_keys + call.plan->limit[last.first_entry + end - 1];
      for (int64_t s = 0; s < splits; ++s) {
        const int64_t key = chain.num_keys * s / splits, end_key = chain.num_keys * (s + 1) / splits;
        const int64_t keys = std::max<int64_t>(0, std::min(end_key, sees) - key);
        const int64_t cost = keys * ((end - row) * group + 16);
        for (int64_t head = 0; head < call.kv_heads; ++head)
          plan.items.push_back({c, head, row, end, key, end_key, s, cost});
      }
    }
  }
  std::stable_sort(plan.items.begin(), plan.items.end(),
                   [](const Item& a, const Item& b) { return a.cost > b.cost; });
}

}  // namespace
}  // namespace chunkwise
