// One warp for each of many rows.
#pragma once
#include "launch.cuh"

namespace simmim::cuda {

template <class F>
__global__ void each_row_kernel(int64_t rows, F body) {
  for (int64_t row = global_thread() / kWarpSize; row < rows; row += global_threads() / kWarpSize) body(row);
}

/// body(row) by all lanes of a warp, for rows in no order; `body` is a functor with __device__ operator().
template <class F>
void for_each_row(At at, int64_t rows, const F& body) {
  if (rows > 0) launch(at, &each_row_kernel<F>, grid_for(at.stream, rows * kWarpSize), rows, body);
}

}  // namespace simmim::cuda
