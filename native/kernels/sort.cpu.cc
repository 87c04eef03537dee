#include "sort.h"

#include "../cpu/thread_pool.h"
#include "../cpu/vec.h"

namespace simmim::SIMMIM_ISA {

namespace {

/// A heap whose root is the worst of the entries kept.
template <class T>
struct Heap {
  T* values;
  int32_t* indices;
  static bool worse(T v, int32_t i, T w, int32_t j) { return v < w || (v == w && i > j); }
  void sink(int64_t size, T value, int32_t index) {  // replaces the root
    int64_t at = 0;
    for (;;) {
      int64_t child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && worse(values[child + 1], indices[child + 1], values[child], indices[child])) child++;
      if (!worse(values[child], indices[child], value, index)) break;
      values[at] = values[child];
      indices[at] = indices[child];
      at = child;
    }
    values[at] = value;
    indices[at] = index;
  }
  void rise(int64_t at, T value, int32_t index) {
    while (at > 0) {
      const int64_t parent = (at - 1) / 2;
      if (!worse(value, index, values[parent], indices[parent])) break;
      values[at] = values[parent];
      indices[at] = indices[parent];
      at = parent;
    }
    values[at] = value;
    indices[at] = index;
  }
};

template <class T>
void top_k_row(const T* x, int64_t n, T* values, int32_t* indices, int64_t k) {
  Heap<T> heap{values, indices};
  for (int64_t i = 0; i < n; i++) {
    const int32_t index = static_cast<int32_t>(i);
    if (i < k) heap.rise(i, x[i], index);
    else if (heap.worse(values[0], indices[0], x[i], index)) heap.sink(k, x[i], index);
  }
  for (int64_t size = k; size > 1; size--) {  // the worst goes last
    const T value = values[size - 1];
    const int32_t index = indices[size - 1];
    values[size - 1] = values[0];
    indices[size - 1] = indices[0];
    heap.sink(size - 1, value, index);
  }
}

template <class T>
void top_k(const TopK& k) {
  const int64_t n = k.x.dim(1), kept = k.values.dim(1);
  if (kept == 0) return;
  parallel_ranges(k.x.dim(0), 4096 / (n + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) top_k_row(k.x.as<T>() + r * n, n, k.values.as<T>() + r * kept, k.indices.i32() + r * kept, kept);
  });
}

}  // namespace

void run(const TopK& k) {
  if (k.x.dtype == DType::f32) top_k<float>(k);
  else top_k<int32_t>(k);
}

}  // namespace simmim::SIMMIM_ISA
