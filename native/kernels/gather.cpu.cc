#include "gather.h"

#include "../cpu/thread_pool.h"
#include "../cpu/vec.h"

namespace simmim::SIMMIM_ISA {

namespace {

constexpr int64_t kGrain = 1 << 14;

void copy_or_clear(char* y, const char* x, int64_t row, size_t bytes) {
  if (row < 0) __builtin_memset(y, 0, bytes);
  else __builtin_memcpy(y, x + row * bytes, bytes);
}

/// updates[n, c] into y[row(n), c] for columns [begin, end).
template <class T>
void scatter_columns(const ScatterNd& k, int64_t begin, int64_t end) {
  const int64_t inner = k.y.dim(1);
  for (int64_t n = 0; n < k.indices.dim(0); n++) {
    const int64_t row = flat_row(k.indices, k.strides, n, k.y.dim(0));
    if (row < 0) continue;
    T* y = k.y.as<T>() + row * inner;
    const T* u = k.updates.as<T>() + n * inner;
    if (k.add)
      for (int64_t c = begin; c < end; c++) y[c] = static_cast<T>(y[c] + u[c]);
    else
      for (int64_t c = begin; c < end; c++) y[c] = u[c];
  }
}

template <class T>
void scatter(const ScatterNd& k) {
  parallel_ranges(k.y.dim(1), 256, [&](int64_t begin, int64_t end) { scatter_columns<T>(k, begin, end); });
}

template <class T>
void segment_sum(const SegmentSum& k) {
  const int64_t inner = k.y.dim(1), segments = k.y.dim(0), rows = k.x.dim(0);
  parallel_ranges(inner, 64, [&](int64_t begin, int64_t end) {
    for (int64_t s = 0; s < segments; s++) __builtin_memset(k.y.as<T>() + s * inner + begin, 0, (end - begin) * sizeof(T));
    for (int64_t n = 0; n < rows; n++) {
      const int64_t s = k.ids.i32()[n];
      if (s < 0 || s >= segments) continue;
      T* y = k.y.as<T>() + s * inner;
      const T* x = k.x.as<T>() + n * inner;
      for (int64_t c = begin; c < end; c++) y[c] += x[c];
    }
  });
}

template <class T>
void one_hot(const OneHot& k) {
  const int64_t depth = k.y.dim(1);
  const T on = static_cast<T>(k.on), off = static_cast<T>(k.off);
  parallel_ranges(k.indices.count(), kGrain / (depth + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      T* y = k.y.as<T>() + n * depth;
      for (int64_t d = 0; d < depth; d++) y[d] = off;
      const int64_t index = k.indices.i32()[n];
      if (index >= 0 && index < depth) y[index] = on;
    }
  });
}

}  // namespace

void run(const Gather& k) {
  const int64_t outer = k.x.dim(1), n = k.x.dim(2), per = k.indices.dim(1);
  const size_t bytes = static_cast<size_t>(k.x.dim(3)) * size_of(k.x.dtype);
  const int64_t rows = k.x.dim(0) * outer * per;
  parallel_ranges(rows, static_cast<int64_t>(4 * kGrain / (bytes + 1)) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const int64_t block = r / per, index = k.indices.i32()[block / outer * per + r % per];
      copy_or_clear(k.y.as<char>() + r * bytes, k.x.as<char>() + block * n * bytes, index >= 0 && index < n ? index : -1, bytes);
    }
  });
}

void run(const GatherNd& k) {
  const size_t bytes = static_cast<size_t>(k.x.dim(1)) * size_of(k.x.dtype);
  parallel_ranges(k.indices.dim(0), static_cast<int64_t>(4 * kGrain / (bytes + 1)) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) copy_or_clear(k.y.as<char>() + n * bytes, k.x.as<char>(), flat_row(k.indices, k.strides, n, k.x.dim(0)), bytes);
  });
}

void run(const ScatterNd& k) {
  switch (k.y.dtype) {
    case DType::f32: return scatter<float>(k);
    case DType::i32: return scatter<int32_t>(k);
    default: return scatter<uint8_t>(k);
  }
}

void run(const SegmentSum& k) {
  if (k.x.dtype == DType::f32) segment_sum<float>(k);
  else segment_sum<int32_t>(k);
}

void run(const OneHot& k) {
  switch (k.y.dtype) {
    case DType::f32: return one_hot<float>(k);
    case DType::i32: return one_hot<int32_t>(k);
    default: return one_hot<uint8_t>(k);
  }
}

}  // namespace simmim::SIMMIM_ISA
