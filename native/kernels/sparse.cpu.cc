#include "sparse.h"

#include "../cpu/thread_pool.h"
#include "elementary.h"

namespace simmim::SIMMIM_ISA {

namespace {

constexpr int64_t kGrain = 1 << 14;

/// The first n with ids[n] >= id.
int64_t first_of(const int32_t* ids, int64_t n, int64_t id) {
  int64_t low = 0, high = n;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (ids[middle] < id) low = middle + 1;
    else high = middle;
  }
  return low;
}

template <class T>
void sum_segments(const SparseSegment& k) {
  const int64_t n = k.ids.count(), inner = k.x.dim(1), segments = k.y.dim(0), rows = k.x.dim(0);
  const int32_t* ids = k.ids.i32();
  parallel_ranges(segments, kGrain / (inner * (n / (segments + 1) + 1) + 1) + 1, [&](int64_t begin, int64_t end) {
    int64_t at = first_of(ids, n, begin);
    for (int64_t s = begin; s < end; s++) {
      T* y = k.y.as<T>() + s * inner;
      for (int64_t j = 0; j < inner; j++) y[j] = 0;
      const int64_t first = at;
      for (; at < n && ids[at] == s; at++) {
        const int64_t row = k.indices.i32()[at];
        if (row < 0 || row >= rows) continue;
        const T* x = k.x.as<T>() + row * inner;
        for (int64_t j = 0; j < inner; j++) y[j] += x[j];
      }
      if (k.mean && at > first + 1)
        for (int64_t j = 0; j < inner; j++) y[j] /= static_cast<T>(at - first);
    }
  });
}

template <class T>
T as_value(double v) {
  if constexpr (__is_same(T, float)) return static_cast<float>(v);
  else return static_cast<T>(to_int32(v));
}

template <class T>
void fill_rows(const SparseFillRows& k) {
  const int64_t n = k.indices.dim(0), depth = k.indices.dim(1), rows = k.empty.dim(0);
  const int32_t* indices = k.indices.i32();
  int64_t* next = static_cast<int64_t*>(k.workspace);
  const auto has_row = [&](int64_t i) { return indices[i * depth] >= 0 && indices[i * depth] < rows; };
  for (int64_t r = 0; r < rows; r++) next[r] = 0;
  for (int64_t i = 0; i < n; i++)
    if (has_row(i)) next[indices[i * depth]]++;
  int64_t total = 0;
  T* values = k.filled_values.as<T>();
  for (int64_t r = 0; r < rows; r++) {
    const int64_t entries = next[r];
    next[r] = total;
    k.empty.u8()[r] = entries == 0;
    if (entries == 0) {
      values[total] = as_value<T>(k.fill);
      for (int64_t d = 0; d < depth; d++) k.filled_indices.i32()[total * depth + d] = d == 0 ? static_cast<int32_t>(r) : 0;
    }
    total += entries == 0 ? 1 : entries;
  }
  k.count.i32()[0] = static_cast<int32_t>(total);
  for (int64_t i = 0; i < n; i++) k.places.i32()[i] = has_row(i) ? static_cast<int32_t>(next[indices[i * depth]]++) : -1;
  parallel_ranges(n, kGrain / (depth + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t place = k.places.i32()[i];
      if (place < 0) continue;
      values[place] = k.values.as<T>()[i];
      for (int64_t d = 0; d < depth; d++) k.filled_indices.i32()[place * depth + d] = indices[i * depth + d];
    }
  });
}

}  // namespace

void run(const SparseSegment& k) {
  if (k.x.dtype == DType::f32) sum_segments<float>(k);
  else sum_segments<int32_t>(k);
}

void run(const SparseFillRows& k) {
  switch (k.values.dtype) {
    case DType::f32: return fill_rows<float>(k);
    case DType::i32: return fill_rows<int32_t>(k);
    default: return fill_rows<uint8_t>(k);
  }
}

void run(const SparseReshape& k) {
  const int from = k.from.size, to = k.to.size;
  parallel_ranges(k.indices.dim(0), kGrain / (from + 8 * to + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      int64_t at = 0;
      for (int d = 0; d < from; d++) at = at * k.from[d] + k.indices.i32()[i * from + d];
      for (int d = to - 1; d >= 0; d--) {
        const int64_t size = k.to[d];
        k.y.i32()[i * to + d] = static_cast<int32_t>(d > 0 && size > 0 ? at % size : at);
        if (size > 0) at /= size;
      }
    }
  });
}

}  // namespace simmim::SIMMIM_ISA
