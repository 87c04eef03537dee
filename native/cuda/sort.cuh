// Bitonic sorts of 64-bit keys, ascending: in shared memory up to 2048 keys, with the long strides in global memory
// beyond that. Keys that pad a row to a power of two are the largest.
#pragma once
#include "launch.cuh"

namespace simmim::cuda {

constexpr int64_t kSharedKeys = 2048;
constexpr int kSortThreads = 512;  // of a block, at most
constexpr uint64_t kLastKey = ~uint64_t{0};

/// A float as an unsigned number of the same order; -0 like 0, NaN above everything.
SIMMIM_DEVICE uint32_t ordered(float f) {
  if (f == 0) f = 0.0f;
  if (f != f) return 0xffffffffu;
  const uint32_t u = __float_as_uint(f);
  return u & 0x80000000u ? ~u : u | 0x80000000u;
}
SIMMIM_DEVICE uint32_t ordered(int32_t i) { return static_cast<uint32_t>(i) ^ 0x80000000u; }

/// Compares and exchanges pairs at a distance of `stride` within `count` keys of shared memory by the whole block; `first`
/// is the place of the first of them in its row, which decides the direction in runs of `run` keys.
SIMMIM_DEVICE void exchange_shared(uint64_t* keys, int count, int64_t first, int64_t run, int stride) {
  for (int i = threadIdx.x; i < count / 2; i += blockDim.x) {
    const int low = (i / stride) * 2 * stride + i % stride, high = low + stride;
    const bool ascending = ((first + low) & run) == 0;
    if ((keys[low] > keys[high]) == ascending) {
      const uint64_t key = keys[low];
      keys[low] = keys[high];
      keys[high] = key;
    }
  }
  __syncthreads();
}

/// Sorts `count` keys (a power of two) of shared memory; ends with a barrier.
SIMMIM_DEVICE void sort_shared(uint64_t* keys, int count, int64_t first) {
  __syncthreads();
  for (int run = 2; run <= count; run *= 2)
    for (int stride = run / 2; stride > 0; stride /= 2) exchange_shared(keys, count, first, run, stride);
}

/// One block for each piece of min(size, kSharedKeys) keys: sorts it, or, with `run`, does the short strides of that run.
static __global__ void __launch_bounds__(kSortThreads) sort_pieces(uint64_t* keys, int64_t size, int piece, int64_t run) {
  uint64_t* shared = shared_memory<uint64_t>();
  uint64_t* mine = keys + static_cast<int64_t>(blockIdx.x) * piece;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * piece % size;
  for (int i = threadIdx.x; i < piece; i += blockDim.x) shared[i] = mine[i];
  if (run == 0) {
    sort_shared(shared, piece, first);
  } else {
    __syncthreads();
    for (int stride = piece / 2; stride > 0; stride /= 2) exchange_shared(shared, piece, first, run, stride);
  }
  for (int i = threadIdx.x; i < piece; i += blockDim.x) mine[i] = shared[i];
}

/// One long stride of a run, over all rows.
static __global__ void exchange_far(uint64_t* keys, int64_t pairs, int64_t size, int64_t run, int64_t stride) {
  for (int64_t i = global_thread(); i < pairs; i += global_threads()) {
    const int64_t low = i / stride * 2 * stride + i % stride, high = low + stride;
    const bool ascending = (low % size & run) == 0;
    if ((keys[low] > keys[high]) == ascending) {
      const uint64_t key = keys[low];
      keys[low] = keys[high];
      keys[high] = key;
    }
  }
}

/// Sorts each of `rows` rows of `size` keys; size is a power of two.
inline void sort_rows(At at, uint64_t* keys, int64_t rows, int64_t size) {
  if (rows == 0 || size < 2) return;
  const int piece = static_cast<int>(size < kSharedKeys ? size : kSharedKeys);
  const Grid pieces{dim3(static_cast<unsigned>(rows * size / piece)), dim3(piece < 64 ? 32 : piece / 2 < kSortThreads ? piece / 2 : kSortThreads), static_cast<size_t>(piece) * 8};
  launch(at, &sort_pieces, pieces, keys, size, piece, int64_t{0});
  for (int64_t run = 2 * piece; run <= size; run *= 2) {
    for (int64_t stride = run / 2; stride >= piece; stride /= 2) launch(at, &exchange_far, grid_for(at.stream, rows * size / 2), keys, rows * size / 2, size, run, stride);
    launch(at, &sort_pieces, pieces, keys, size, piece, run);
  }
}

}  // namespace simmim::cuda
