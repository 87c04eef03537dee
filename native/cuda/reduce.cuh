// Reductions over the lanes of a warp and the threads of a block, always in the same tree order, so that equal inputs
// give equal bits. Long reductions take two launches: partial results of fixed pieces, then the pieces in order.
#pragma once
#include "device.cuh"

namespace simmim::cuda {

struct Sum {
  template <class T>
  SIMMIM_DEVICE T operator()(T a, T b) const { return a + b; }
};
struct Multiply {
  template <class T>
  SIMMIM_DEVICE T operator()(T a, T b) const { return a * b; }
};
/// NaN wins over every number.
struct Max {
  template <class T>
  SIMMIM_DEVICE T operator()(T a, T b) const { return b > a || b != b ? b : a; }
};
struct Min {
  template <class T>
  SIMMIM_DEVICE T operator()(T a, T b) const { return b < a || b != b ? b : a; }
};

/// The reduction over a group of `width` neighbouring lanes (a power of two), known to all of them.
template <class J, class T>
SIMMIM_DEVICE T warp_reduce(T value, const J& join, int width = kWarpSize) {
  for (int step = width / 2; step > 0; step /= 2) value = join(value, __shfl_xor_sync(kAllLanes, value, step));
  return value;
}

/// The reduction over a one-dimensional block of whole warps, known to all threads. `scratch`: 32 values of shared memory.
template <class J, class T>
SIMMIM_DEVICE T block_reduce(T value, const J& join, T zero, T* scratch) {
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize, warps = blockDim.x / kWarpSize;
  value = warp_reduce(value, join);
  if (warps == 1) return value;
  __syncthreads();  // whoever still reads scratch from an earlier reduction
  if (lane == 0) scratch[warp] = value;
  __syncthreads();
  return warp_reduce(lane < warps ? scratch[lane] : zero, join);
}

}  // namespace simmim::cuda
