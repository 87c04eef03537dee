// Running sums of one row of integers, by one block: for results that are packed one behind the other.
#pragma once
#include "launch.cuh"

namespace simmim::cuda {

constexpr unsigned kRunningThreads = 1024;

/// value(i) for i in [0, n), then put(i, value(0) + ... + value(i - 1)) for i in [0, n], n being the total.
template <class F>
__global__ void __launch_bounds__(kRunningThreads) running_sum_kernel(int64_t n, F body) {
  __shared__ int64_t totals[kRunningThreads / kWarpSize];
  const int lane = static_cast<int>(threadIdx.x % kWarpSize), warp = static_cast<int>(threadIdx.x / kWarpSize), warps = static_cast<int>(blockDim.x / kWarpSize);
  int64_t carry = 0;
  for (int64_t begin = 0; begin < n; begin += blockDim.x) {
    const int64_t i = begin + threadIdx.x, own = i < n ? body.value(i) : 0;
    int64_t sum = own;
    for (int step = 1; step < kWarpSize; step *= 2) {
      const int64_t other = __shfl_up_sync(kAllLanes, sum, static_cast<unsigned>(step));
      if (lane >= step) sum += other;
    }
    if (lane == kWarpSize - 1) totals[warp] = sum;
    __syncthreads();
    int64_t before = carry;
    for (int w = 0; w < warps; w++) {
      if (w < warp) before += totals[w];
      carry += totals[w];
    }
    if (i < n) body.put(i, before + sum - own);
    __syncthreads();
  }
  if (threadIdx.x == 0) body.put(n, carry);
}

template <class F>
void running_sum(At at, int64_t n, const F& body) {
  const int64_t wanted = (n + kWarpSize - 1) / kWarpSize * kWarpSize, most = kRunningThreads;
  const unsigned threads = static_cast<unsigned>(wanted < kWarpSize ? kWarpSize : wanted < most ? wanted : most);
  launch(at, &running_sum_kernel<F>, Grid{dim3(1), dim3(threads)}, n, body);
}

}  // namespace simmim::cuda
