#include "gather.h"

#include "../cuda/launch.cuh"
#include "../cuda/sort.cuh"
#include "../cuda/vec.cuh"

namespace simmim::cuda {

namespace {

/// y[row] = x[source(row)], or zeros where source is negative; rows of `units` pieces of type T.
template <class T, class Source>
struct CopyRows {
  const T* x;
  T* y;
  int64_t units;
  Source source;
  __device__ void operator()(int64_t i) const {
    const int64_t row = i / units, from = source(row);
    y[i] = from < 0 ? T{} : x[from * units + i % units];
  }
};

/// In the largest pieces that rows and addresses allow.
template <class Source>
void copy_rows(At at, const Tensor& x, const Tensor& y, int64_t rows, int64_t bytes, const Source& source) {
  const auto fits = [&](int64_t size) { return bytes % size == 0 && reinterpret_cast<uintptr_t>(x.data) % size == 0 && reinterpret_cast<uintptr_t>(y.data) % size == 0; };
  const auto copy = [&]<class T>(T) { for_each(at, rows * bytes / static_cast<int64_t>(sizeof(T)), CopyRows<T, Source>{x.as<T>(), y.as<T>(), bytes / static_cast<int64_t>(sizeof(T)), source}); };
  if (fits(16)) copy(uint4{});
  else if (fits(4)) copy(uint32_t{});
  else if (fits(2)) copy(uint16_t{});
  else copy(uint8_t{});
}

struct GatherSource {
  const int32_t* indices;
  int64_t outer, per, n;
  __device__ int64_t operator()(int64_t row) const {
    const int64_t block = row / per, index = indices[block / outer * per + row % per];
    return index >= 0 && index < n ? block * n + index : -1;
  }
};

/// The row that index tuple number n stands for.
struct TupleRows {
  Tensor indices;  // [N, D]
  Ints strides;
  int64_t rows;
  __device__ int64_t operator()(int64_t n) const { return flat_row(indices, strides, n, rows); }
};

/// One thread per column does all writes in their order.
template <class T>
struct WriteColumn {
  T* y;
  const T* updates;
  int64_t count, inner;
  TupleRows rows;
  bool add;
  __device__ void operator()(int64_t c) const {
    for (int64_t n = 0; n < count; n++) {
      const int64_t row = rows(n);
      if (row < 0) continue;
      T& target = y[row * inner + c];
      const T value = updates[n * inner + c];
      target = add ? static_cast<T>(target + value) : value;
    }
  }
};

/// Keys that sort writes by row, and by number within a row; writes outside come last.
struct MakeKeys {
  uint64_t* keys;
  int64_t count;
  TupleRows rows;
  __device__ void operator()(int64_t n) const {
    const int64_t row = n < count ? rows(n) : -1;
    keys[n] = row < 0 ? kLastKey : static_cast<uint64_t>(row) << 32 | static_cast<uint64_t>(n);
  }
};

/// The first write of each row does the others of that row as well, for one column.
template <class T>
struct WriteRow {
  T* y;
  const T* updates;
  const uint64_t* keys;
  int64_t count, inner;
  bool add;
  __device__ void operator()(int64_t i) const {
    int64_t at = i / inner;
    const int64_t c = i % inner;
    const uint64_t row = keys[at] >> 32;
    if (keys[at] == kLastKey || (at > 0 && keys[at - 1] >> 32 == row)) return;
    T& target = y[static_cast<int64_t>(row) * inner + c];
    T value = target;
    for (; at < count && keys[at] != kLastKey && keys[at] >> 32 == row; at++) {
      const T update = updates[static_cast<int64_t>(keys[at] & 0xffffffffu) * inner + c];
      value = add ? static_cast<T>(value + update) : update;
    }
    target = value;
  }
};

template <class T>
void write_rows(At at, const Tensor& y, const Tensor& updates, const TupleRows& rows, int64_t count, bool add, void* workspace) {
  const int64_t inner = y.dim(1);
  if (count == 0 || inner == 0) return;
  if (count <= kFewRows) return for_each(at, inner, WriteColumn<T>{y.as<T>(), updates.as<T>(), count, inner, rows, add});
  auto* keys = static_cast<uint64_t*>(workspace);
  const int64_t padded = power_of_two_from(count);
  for_each(at, padded, MakeKeys{keys, count, rows});
  sort_rows(at, keys, 1, padded);
  for_each(at, count * inner, WriteRow<T>{y.as<T>(), updates.as<T>(), keys, count, inner, add});
}

template <class T>
struct OneHotRows {
  const int32_t* indices;
  T* y;
  int64_t depth;
  T on, off;
  __device__ void operator()(int64_t i) const { y[i] = indices[i / depth] == i % depth ? on : off; }
};
template <class T>
void one_hot(const OneHot& k, Stream& stream) {
  for_each(stream, k.y.count(), OneHotRows<T>{k.indices.i32(), k.y.as<T>(), k.y.dim(1), static_cast<T>(k.on), static_cast<T>(k.off)});
}

}  // namespace

void run(const Gather& k, Stream& stream) {
  const int64_t outer = k.x.dim(1), per = k.indices.dim(1), bytes = k.x.dim(3) * static_cast<int64_t>(size_of(k.x.dtype));
  if (k.y.count() > 0) copy_rows(stream, k.x, k.y, k.x.dim(0) * outer * per, bytes, GatherSource{k.indices.i32(), outer, per, k.x.dim(2)});
}

void run(const GatherNd& k, Stream& stream) {
  const int64_t bytes = k.x.dim(1) * static_cast<int64_t>(size_of(k.x.dtype));
  if (k.y.count() > 0) copy_rows(stream, k.x, k.y, k.indices.dim(0), bytes, TupleRows{k.indices, k.strides, k.x.dim(0)});
}

void run(const ScatterNd& k, Stream& stream) {
  const TupleRows rows{k.indices, k.strides, k.y.dim(0)};
  const int64_t count = k.indices.dim(0);
  switch (k.y.dtype) {
    case DType::f32: return write_rows<float>(stream, k.y, k.updates, rows, count, k.add, k.workspace);
    case DType::i32: return write_rows<uint32_t>(stream, k.y, k.updates, rows, count, k.add, k.workspace);
    default: return write_rows<uint8_t>(stream, k.y, k.updates, rows, count, k.add, k.workspace);
  }
}

void run(const SegmentSum& k, Stream& stream) {
  if (k.y.count() == 0) return;
  SIMMIM_CUDA_CALL(cudaMemsetAsync(k.y.data, 0, k.y.bytes(), stream.handle));
  Ints strides;
  strides.size = 1;
  strides.values[0] = 1;
  Tensor ids = k.ids;
  ids.shape.rank = 2;
  ids.shape.dims[1] = 1;
  const TupleRows rows{ids, strides, k.y.dim(0)};
  if (k.x.dtype == DType::f32) write_rows<float>(stream, k.y, k.x, rows, k.ids.dim(0), true, k.workspace);
  else write_rows<uint32_t>(stream, k.y, k.x, rows, k.ids.dim(0), true, k.workspace);
}

void run(const OneHot& k, Stream& stream) {
  switch (k.y.dtype) {
    case DType::f32: return one_hot<float>(k, stream);
    case DType::i32: return one_hot<int32_t>(k, stream);
    default: return one_hot<uint8_t>(k, stream);
  }
}

}  // namespace simmim::cuda
