#include "sort.h"

#include "../cuda/launch.cuh"
#include "../cuda/sort.cuh"

namespace simmim::cuda {

namespace {

/// Ascending keys: the largest value first, then the lower index.
template <class T>
SIMMIM_DEVICE uint64_t key_of(T value, int64_t index) {
  return static_cast<uint64_t>(~ordered(value)) << 32 | static_cast<uint64_t>(index);
}
SIMMIM_DEVICE int32_t index_of(uint64_t key) { return static_cast<int32_t>(key & 0xffffffffu); }

/// One block per row: the best `kept` so far stay in front of kSharedKeys - kept new ones, and all are sorted again.
template <class T>
__global__ void __launch_bounds__(kSortThreads) top_k_rows(const T* x, int64_t rows, int64_t n, int kept, T* values, int32_t* indices) {
  uint64_t* keys = shared_memory<uint64_t>();
  const int fresh = static_cast<int>(kSharedKeys) - kept;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    __syncthreads();
    for (int i = threadIdx.x; i < kept; i += blockDim.x) keys[i] = kLastKey;
    for (int64_t begin = 0; begin < n; begin += fresh) {
      for (int i = threadIdx.x; i < fresh; i += blockDim.x) keys[kept + i] = begin + i < n ? key_of(x[row * n + begin + i], begin + i) : kLastKey;
      sort_shared(keys, static_cast<int>(kSharedKeys), 0);
    }
    for (int i = threadIdx.x; i < kept; i += blockDim.x) {
      const int32_t index = index_of(keys[i]);
      values[row * kept + i] = x[row * n + index];
      indices[row * kept + i] = index;
    }
  }
}

template <class T>
struct MakeRowKeys {
  const T* x;
  uint64_t* keys;
  int64_t n, padded;
  __device__ void operator()(int64_t i) const {
    const int64_t at = i % padded;
    keys[i] = at < n ? key_of(x[i / padded * n + at], at) : kLastKey;
  }
};
template <class T>
struct TakeRowKeys {
  const T* x;
  const uint64_t* keys;
  T* values;
  int32_t* indices;
  int64_t n, padded, kept;
  __device__ void operator()(int64_t i) const {
    indices[i] = index_of(keys[i / kept * padded + i % kept]);
    values[i] = x[i / kept * n + indices[i]];
  }
};

template <class T>
void top_k(const TopK& k, Stream& stream) {
  const int64_t rows = k.x.dim(0), n = k.x.dim(1), kept = k.values.dim(1);
  if (rows * kept == 0) return;
  const T* x = k.x.as<T>();
  if (kept <= TopK::kSharedK) {
    const int64_t most = static_cast<int64_t>(stream.multiprocessors) * 16;
    const Grid grid{dim3(static_cast<unsigned>(rows < most ? rows : most)), dim3(kSortThreads), kSharedKeys * 8};
    return launch(stream, &top_k_rows<T>, grid, x, rows, n, static_cast<int>(kept), k.values.as<T>(), k.indices.i32());
  }
  auto* keys = static_cast<uint64_t*>(k.workspace);
  const int64_t padded = power_of_two_from(n);
  for_each(stream, rows * padded, MakeRowKeys<T>{x, keys, n, padded});
  sort_rows(stream, keys, rows, padded);
  for_each(stream, rows * kept, TakeRowKeys<T>{x, keys, k.values.as<T>(), k.indices.i32(), n, padded, kept});
}

}  // namespace

void run(const TopK& k, Stream& stream) {
  if (k.x.dtype == DType::f32) top_k<float>(k, stream);
  else top_k<int32_t>(k, stream);
}

}  // namespace simmim::cuda
