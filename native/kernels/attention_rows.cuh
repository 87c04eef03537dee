// Attention for every dtype, head size and number of tokens: one warp for each row of the scores, its lanes over 32 keys (or
// queries) at a time; nothing of the size of the scores is kept. A warp's query, key or sums lie in shared memory.
#pragma once
#include "attention_map.cuh"
#include "../cuda/launch.cuh"
#include "../cuda/reduce.cuh"
#include "../cuda/vec.cuh"

namespace simmim::cuda {

constexpr int kRowWarps = 4;  // of a block at most
constexpr float kNothing = -__builtin_inff();

/// 1 / max(|x|, 1e-12)
SIMMIM_DEVICE float length_factor(float squares) { return 1.0f / sqrtf(squares > 1e-24f ? squares : 1e-24f); }

/// One row of one head: where a warp is, and its shared memory.
struct RowPlace {
  int64_t instance, head, i, number;
  SIMMIM_DEVICE RowPlace(int64_t row, int64_t heads, int64_t tokens) : instance(row / tokens / heads), head(row / tokens % heads), i(row % tokens), number(row * kRowNumbers) {}
};

/// A warp's copy of one vector of d values, with 1 / length.
template <class T>
SIMMIM_DEVICE float take_vector(float* to, const T* from, int64_t d) {
  float squares = 0;
  for (int64_t c = threadIdx.x % kWarpSize; c < d; c += kWarpSize) {
    to[c] = load(from + c);
    squares += to[c] * to[c];
  }
  __syncwarp();
  return length_factor(warp_reduce(squares, Sum{}));
}

/// x . y of a lane with its own y; `factor` becomes 1 / |y|.
template <class T>
SIMMIM_DEVICE float dot_with(const float* x, const T* y, int64_t d, float* factor = nullptr) {
  float sum = 0, squares = 0;
  for (int64_t c = 0; c < d; c++) {
    const float v = load(y + c);
    sum = fmaf(x[c], v, sum);
    squares = fmaf(v, v, squares);
  }
  if (factor) *factor = length_factor(squares);
  return sum;
}

/// A warp's shared memory: what its lanes bring to a weighted sum, then vectors of d values.
struct WarpMemory {
  int64_t* at;    // [32]
  float* weight;  // [32]
  float* vectors;
  int64_t d;
  static constexpr int64_t kFloats = 3 * kWarpSize;
  SIMMIM_INLINE static int64_t floats(int64_t vectors, int64_t d) { return kFloats + (vectors * d + 1) / 2 * 2; }
  SIMMIM_DEVICE WarpMemory(int64_t count, int64_t d) : d(d) {
    float* const own = shared_memory<float>() + threadIdx.x / kWarpSize * floats(count, d);
    at = reinterpret_cast<int64_t*>(own);
    weight = own + 2 * kWarpSize;
    vectors = own + kFloats;
  }
  SIMMIM_DEVICE float* vector(int64_t i) const { return vectors + i * d; }
};

/// sums[c] = sums[c] * keep + sum over the lanes' weights w of w * vector[c]; a lane's vector starts at `at` of `base` (< 0: none).
template <class T>
SIMMIM_DEVICE void add_weighted(const WarpMemory& memory, float* sums, float keep, float w, const T* base, int64_t at) {
  const int lane = static_cast<int>(threadIdx.x % kWarpSize);
  memory.weight[lane] = w;
  memory.at[lane] = at;
  __syncwarp();
  for (int64_t c = lane; c < memory.d; c += kWarpSize) {
    float sum = sums[c] * keep;
    for (int j = 0; j < kWarpSize; j++)
      if (memory.at[j] >= 0) sum = fmaf(memory.weight[j], load(base + memory.at[j] + c), sum);
    sums[c] = sum;
  }
  __syncwarp();
}

/// The scores of one query against a lane's key.
template <class Map, class T>
struct Query {
  const Map& map;
  const HeadTensors<T>& t;
  int64_t head;
  Cell cell;
  const float* q;
  float factor;  // of all its scores: the scale, or scales[head] / |q|
  SIMMIM_DEVICE Query(const Map& map, const HeadTensors<T>& t, int64_t head, const Cell& cell, float* q) : map(map), t(t), head(head), cell(cell), q(q) {
    const float length = take_vector(q, t.qkv + t.part(cell, head, 0), t.d);
    factor = t.scales ? t.scales[head] * length : t.scale;
  }
  /// The score, -infinity where there is no key; `key_factor` becomes 1 / |k| of cosine attention, otherwise 1.
  SIMMIM_DEVICE float score(const Cell& key, float* key_factor) const {
    *key_factor = 1.0f;
    if (key.token < 0) return kNothing;
    const float product = dot_with(q, t.qkv + t.part(key, head, 1), t.d, t.scales ? key_factor : nullptr);
    return product * factor * *key_factor + map.added(head, cell, key);
  }
};

/// The running maximum of scores, and what earlier sums must be multiplied by when it rises.
struct Peak {
  float value = kNothing;
  SIMMIM_DEVICE float rise(float score) {
    const float before = value, peak = warp_reduce(score, Max{});
    value = Max{}(before, peak);
    return before == kNothing ? 0.0f : expf(before - value);
  }
  SIMMIM_DEVICE float weight(float score) const { return score == kNothing ? 0.0f : expf(score - value); }
};

template <class Map, class T>
SIMMIM_DEVICE Cell lane_cell(const Map& map, int64_t instance, int64_t i) {
  return i < map.tokens() ? map.cell(instance, i) : Cell{-1, -1, 0};
}

template <class Map, class T>
__global__ void attention_rows(Map map, HeadTensors<T> t, int64_t rows) {
  const WarpMemory memory(2, t.d);
  float *const q = memory.vector(0), *const sums = memory.vector(1);
  const int64_t n = map.tokens(), lane = threadIdx.x % kWarpSize;
  for (int64_t row = global_thread() / kWarpSize; row < rows; row += global_threads() / kWarpSize) {
    const RowPlace place(row, t.heads, n);
    const Cell cell = map.cell(place.instance, place.i);
    if (cell.token < 0) continue;
    const Query<Map, T> query(map, t, place.head, cell, q);
    for (int64_t c = lane; c < t.d; c += kWarpSize) sums[c] = 0;
    Peak peak;
    float total = 0;
    for (int64_t j0 = 0; j0 < n; j0 += kWarpSize) {
      const Cell key = lane_cell<Map, T>(map, place.instance, j0 + lane);
      float unused;
      const float score = query.score(key, &unused), keep = peak.rise(score), w = peak.weight(score);
      total = total * keep + warp_reduce(w, Sum{});
      add_weighted(memory, sums, keep, w, t.qkv, key.token < 0 ? -1 : t.part(key, place.head, 2));
    }
    for (int64_t c = lane; c < t.d; c += kWarpSize) store(t.y + t.mixed(cell, place.head) + c, sums[c] / total);
    __syncwarp();
  }
}

/// Gradient of the queries: the row's numbers first, then dq = sum of ds k.
template <class Map, class T>
__global__ void attention_query_gradient(Map map, HeadTensors<T> t, int64_t rows) {
  const WarpMemory memory(3, t.d);
  float *const q = memory.vector(0), *const dy = memory.vector(1), *const sums = memory.vector(2);
  const int64_t n = map.tokens(), lane = threadIdx.x % kWarpSize;
  for (int64_t row = global_thread() / kWarpSize; row < rows; row += global_threads() / kWarpSize) {
    const RowPlace place(row, t.heads, n);
    const Cell cell = map.cell(place.instance, place.i);
    float* const numbers = t.numbers + place.number;
    if (cell.token < 0) {
      if (lane < kRowNumbers) numbers[lane] = 0;
      continue;
    }
    const Query<Map, T> query(map, t, place.head, cell, q);
    take_vector(dy, t.dy + t.mixed(cell, place.head), t.d);
    for (int64_t c = lane; c < t.d; c += kWarpSize) sums[c] = 0;
    Peak peak;
    float total = 0, mean = 0, key_factor;
    for (int64_t j0 = 0; j0 < n; j0 += kWarpSize) {
      const Cell key = lane_cell<Map, T>(map, place.instance, j0 + lane);
      const float score = query.score(key, &key_factor), keep = peak.rise(score), w = peak.weight(score);
      const float dp = key.token < 0 ? 0.0f : dot_with(dy, t.qkv + t.part(key, place.head, 2), t.d);
      total = total * keep + warp_reduce(w, Sum{});
      mean = mean * keep + warp_reduce(w * dp, Sum{});
    }
    mean /= total;
    for (int64_t j0 = 0; j0 < n; j0 += kWarpSize) {
      const Cell key = lane_cell<Map, T>(map, place.instance, j0 + lane);
      const float p = peak.weight(query.score(key, &key_factor)) / total;
      const float dp = key.token < 0 ? 0.0f : dot_with(dy, t.qkv + t.part(key, place.head, 2), t.d);
      add_weighted(memory, sums, 1.0f, p * (dp - mean) * key_factor, t.qkv, key.token < 0 ? -1 : t.part(key, place.head, 1));
    }
    // Of cosine attention `sums` times the scale is the gradient of n = q / |q|; then dq = (dn - n (n . dn)) / |q|.
    const float length = t.scales ? query.factor / t.scales[place.head] : 1.0f;
    float along = 0;
    if (t.scales) {
      for (int64_t c = lane; c < t.d; c += kWarpSize) along += q[c] * length * sums[c] * t.scales[place.head];
      along = warp_reduce(along, Sum{});
    }
    const float removed = length < 1e12f ? along * length * length : 0.0f;  // below the clamp the divisor is a constant
    for (int64_t c = lane; c < t.d; c += kWarpSize) store(t.dqkv + t.part(cell, place.head, 0) + c, sums[c] * query.factor - (t.scales ? q[c] * removed : 0.0f));
    if (lane == 0) {
      numbers[0] = peak.value;
      numbers[1] = 1.0f / total;
      numbers[2] = mean;
      numbers[3] = along;
    }
    __syncwarp();
  }
}

/// p and ds of a lane's query and a warp's key, from the query's numbers. `k` and `v` in shared memory.
template <class Map, class T>
struct Key {
  const Map& map;
  const HeadTensors<T>& t;
  int64_t instance, head;
  Cell cell;
  const float *k, *v;
  float length;  // 1 / |k| of cosine attention, otherwise 1
  struct Pair {
    float p, ds, query_factor;
  };
  SIMMIM_DEVICE Pair with(const Cell& query, int64_t i) const {
    if (query.token < 0) return {0, 0, 0};
    float query_factor = 1;
    const float product = dot_with(k, t.qkv + t.part(query, head, 0), t.d, t.scales ? &query_factor : nullptr);
    const float factor = t.scales ? t.scales[head] * query_factor : t.scale;
    const float* numbers = t.numbers + ((instance * t.heads + head) * map.tokens() + i) * kRowNumbers;
    const float p = expf(product * factor * length + map.added(head, query, cell) - numbers[0]) * numbers[1];
    return {p, p * (dot_with(v, t.dy + t.mixed(query, head), t.d) - numbers[2]), factor};
  }
};

/// Gradients of keys and values: dv = sum of p dy, dk = sum of ds q.
template <class Map, class T>
__global__ void attention_key_gradient(Map map, HeadTensors<T> t, int64_t rows) {
  const WarpMemory memory(4, t.d);
  float *const k = memory.vector(0), *const v = memory.vector(1), *const dk = memory.vector(2), *const dv = memory.vector(3);
  const int64_t n = map.tokens(), lane = threadIdx.x % kWarpSize;
  for (int64_t row = global_thread() / kWarpSize; row < rows; row += global_threads() / kWarpSize) {
    const RowPlace place(row, t.heads, n);
    const Cell cell = map.cell(place.instance, place.i);
    if (cell.token < 0) continue;
    const float length = take_vector(k, t.qkv + t.part(cell, place.head, 1), t.d);
    take_vector(v, t.qkv + t.part(cell, place.head, 2), t.d);
    for (int64_t c = lane; c < t.d; c += kWarpSize) dk[c] = dv[c] = 0;
    const Key<Map, T> key{map, t, place.instance, place.head, cell, k, v, t.scales ? length : 1.0f};
    for (int64_t i0 = 0; i0 < n; i0 += kWarpSize) {
      const Cell query = lane_cell<Map, T>(map, place.instance, i0 + lane);
      const auto pair = key.with(query, i0 + lane);
      add_weighted(memory, dv, 1.0f, pair.p, t.dy, query.token < 0 ? -1 : t.mixed(query, place.head));
      add_weighted(memory, dk, 1.0f, pair.ds * pair.query_factor, t.qkv, query.token < 0 ? -1 : t.part(query, place.head, 0));
    }
    float removed = 0;
    if (t.scales) {  // dk is now the gradient of k / |k|
      float along = 0;
      for (int64_t c = lane; c < t.d; c += kWarpSize) along += k[c] * dk[c];
      removed = length < 1e12f ? warp_reduce(along, Sum{}) * length * length : 0.0f;
    }
    for (int64_t c = lane; c < t.d; c += kWarpSize) {
      store(t.dqkv + t.part(cell, place.head, 1) + c, (dk[c] - k[c] * removed) * key.length);
      store(t.dqkv + t.part(cell, place.head, 2) + c, dv[c]);
    }
    __syncwarp();
  }
}

/// ds of any pair of one instance, by one thread.
template <class Map, class T>
SIMMIM_DEVICE float score_gradient(const Map& map, const HeadTensors<T>& t, int64_t instance, int64_t head, int64_t i, int64_t j) {
  const Cell query = map.cell(instance, i), key = map.cell(instance, j);
  if (query.token < 0 || key.token < 0) return 0;
  const T *q = t.qkv + t.part(query, head, 0), *k = t.qkv + t.part(key, head, 1), *v = t.qkv + t.part(key, head, 2), *dy = t.dy + t.mixed(query, head);
  float product = 0, dp = 0, q_squares = 0, k_squares = 0;
  for (int64_t c = 0; c < t.d; c++) {
    const float a = load(q + c), b = load(k + c);
    product = fmaf(a, b, product);
    dp = fmaf(load(dy + c), load(v + c), dp);
    q_squares = fmaf(a, a, q_squares);
    k_squares = fmaf(b, b, k_squares);
  }
  const float factor = t.scales ? t.scales[head] * length_factor(q_squares) * length_factor(k_squares) : t.scale;
  const float* numbers = t.numbers + ((instance * t.heads + head) * map.tokens() + i) * kRowNumbers;
  return expf(product * factor + map.added(head, query, key) - numbers[0]) * numbers[1] * (dp - numbers[2]);
}

/// One warp for each row of the scores, with `vectors` of d floats in shared memory: fewer warps in a block where heads are so wide
/// that four have no room.
template <class... P, class... A>
void launch_rows(At at, void (*kernel)(P...), int64_t rows, int64_t vectors, int64_t d, A... arguments) {
  const size_t bytes = static_cast<size_t>(WarpMemory::floats(vectors, d)) * sizeof(float), limit = at.stream.shared_limit;
  if (bytes > limit) fail_as("unsupported", "heads have %lld channels: %zu bytes of shared memory, this GPU has %zu for a block", static_cast<long long>(d), bytes, limit);
  const size_t warps = limit / bytes < kRowWarps ? limit / bytes : kRowWarps;
  Grid grid = grid_for(at.stream, rows * kWarpSize, static_cast<unsigned>(warps) * kWarpSize);
  grid.shared = warps * bytes;
  launch(at, kernel, grid, arguments..., rows);
}

template <class Map, class T>
void attend_rows(const Map& map, const HeadTensors<T>& t, Stream& stream) {
  launch_rows(stream, &attention_rows<Map, T>, map.instances() * t.heads * map.tokens(), 2, t.d, map, t);
}

template <class Map, class T>
void attend_rows_gradient(const Map& map, const HeadTensors<T>& t, Stream& stream) {
  const int64_t rows = map.instances() * t.heads * map.tokens();
  launch_rows(stream, &attention_query_gradient<Map, T>, rows, 3, t.d, map, t);
  launch_rows(stream, &attention_key_gradient<Map, T>, rows, 4, t.d, map, t);
}

}  // namespace simmim::cuda
