#include "sparse.h"

#include "../cuda/bisect.cuh"
#include "../cuda/running_sum.cuh"
#include "../cuda/sort.cuh"
#include "scalar_ops.h"

namespace simmim::cuda {

namespace {

/// One column of one segment.
template <class T>
struct SumSegment {
  const T* x;
  const int32_t *indices, *ids;
  T* y;
  int64_t n, rows, inner;
  bool mean;
  __device__ void operator()(int64_t i) const {
    const int64_t s = i / inner, column = i % inner, first = first_not(n, [&](int64_t at) { return ids[at] < s; });
    int64_t at = first;
    T sum = 0;
    for (; at < n && ids[at] == s; at++) {
      const int64_t row = indices[at];
      if (row >= 0 && row < rows) sum += x[row * inner + column];
    }
    y[i] = mean && at > first + 1 ? sum / static_cast<T>(at - first) : sum;
  }
};
template <class T>
void sum_segments(const SparseSegment& k, Stream& stream) {
  for_each(stream, k.y.count(), SumSegment<T>{k.x.as<T>(), k.indices.i32(), k.ids.i32(), k.y.as<T>(), k.ids.count(), k.x.dim(0), k.x.dim(1), k.mean});
}

/// Keys that sort entries by row, and by number within a row; those without a row come last.
struct MakeKeys {
  const int32_t* indices;
  uint64_t* keys;
  int64_t count, depth, rows;
  __device__ void operator()(int64_t n) const {
    const int64_t row = n < count ? indices[n * depth] : -1;
    keys[n] = row >= 0 && row < rows ? static_cast<uint64_t>(row) << 32 | static_cast<uint64_t>(n) : kLastKey;
  }
};

/// The filled matrix: where its rows begin, and the entries of rows that had none.
template <class T>
struct LayRows {
  const uint64_t* keys;
  int64_t count, depth, rows;
  T* values;
  int32_t* indices;
  uint8_t* empty;
  int64_t* shift;  // [R]: from the place of an entry of the row among the sorted ones to its place in the result
  int32_t* total;
  T fill;
  SIMMIM_DEVICE int64_t first_of(int64_t row) const {
    return first_not(count, [&](int64_t i) { return keys[i] < static_cast<uint64_t>(row) << 32; });
  }
  SIMMIM_DEVICE int64_t value(int64_t row) const {
    const int64_t entries = first_of(row + 1) - first_of(row);
    return entries > 0 ? entries : 1;
  }
  SIMMIM_DEVICE void put(int64_t row, int64_t at) const {
    if (row == rows) {
      *total = static_cast<int32_t>(at);
      return;
    }
    const int64_t first = first_of(row);
    empty[row] = first == first_of(row + 1);
    shift[row] = at - first;
    if (!empty[row]) return;
    values[at] = fill;
    for (int64_t d = 0; d < depth; d++) indices[at * depth + d] = d == 0 ? static_cast<int32_t>(row) : 0;
  }
};

/// The entries that were there, in their order within each row.
template <class T>
struct MoveEntries {
  const uint64_t* keys;
  const int64_t* shift;
  const int32_t* indices;
  const T* values;
  int32_t *filled_indices, *places;
  T* filled_values;
  int64_t depth;
  __device__ void operator()(int64_t i) const {
    if (keys[i] == kLastKey) return;
    const int64_t n = static_cast<int64_t>(keys[i] & 0xffffffffu), place = i + shift[keys[i] >> 32];
    places[n] = static_cast<int32_t>(place);
    filled_values[place] = values[n];
    for (int64_t d = 0; d < depth; d++) filled_indices[place * depth + d] = indices[n * depth + d];
  }
};

template <class T>
T as_value(double v) {
  if constexpr (__is_same(T, float)) return static_cast<float>(v);
  else return static_cast<T>(to_int32(v));
}

template <class T>
void fill_rows(const SparseFillRows& k, Stream& stream) {
  const int64_t n = k.indices.dim(0), depth = k.indices.dim(1), rows = k.empty.dim(0), padded = power_of_two_from(n);
  auto* keys = static_cast<uint64_t*>(k.workspace);
  auto* shift = reinterpret_cast<int64_t*>(keys + padded);
  if (n > 0) SIMMIM_CUDA_CALL(cudaMemsetAsync(k.places.data, 0xff, k.places.bytes(), stream.handle));  // -1
  for_each(stream, padded, MakeKeys{k.indices.i32(), keys, n, depth, rows});
  sort_rows(stream, keys, 1, padded);
  running_sum(stream, rows, LayRows<T>{keys, n, depth, rows, k.filled_values.as<T>(), k.filled_indices.i32(), k.empty.u8(), shift, k.count.i32(), as_value<T>(k.fill)});
  for_each(stream, n, MoveEntries<T>{keys, shift, k.indices.i32(), k.values.as<T>(), k.filled_indices.i32(), k.places.i32(), k.filled_values.as<T>(), depth});
}

struct Reshaped {
  const int32_t* indices;
  int32_t* y;
  Ints from, to;
  __device__ void operator()(int64_t i) const {
    int64_t at = 0;
    for (int d = 0; d < from.size; d++) at = at * from[d] + indices[i * from.size + d];
    for (int d = to.size - 1; d >= 0; d--) {
      const int64_t size = to[d];
      y[i * to.size + d] = static_cast<int32_t>(d > 0 && size > 0 ? at % size : at);
      if (size > 0) at /= size;
    }
  }
};

}  // namespace

void run(const SparseSegment& k, Stream& stream) {
  if (k.x.dtype == DType::f32) sum_segments<float>(k, stream);
  else sum_segments<int32_t>(k, stream);
}

void run(const SparseFillRows& k, Stream& stream) {
  switch (k.values.dtype) {
    case DType::f32: return fill_rows<float>(k, stream);
    case DType::i32: return fill_rows<int32_t>(k, stream);
    default: return fill_rows<uint8_t>(k, stream);
  }
}

void run(const SparseReshape& k, Stream& stream) { for_each(stream, k.indices.dim(0), Reshaped{k.indices.i32(), k.y.i32(), k.from, k.to}); }

}  // namespace simmim::cuda
