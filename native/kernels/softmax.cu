#include "softmax.h"

#include "../cuda/launch.cuh"
#include "../cuda/reduce.cuh"

namespace simmim::cuda {

namespace {

/// Lanes of one row: a warp, or the whole block; reductions over them.
struct WarpRow {
  static SIMMIM_DEVICE int first() { return threadIdx.x % kWarpSize; }
  static SIMMIM_DEVICE int step() { return kWarpSize; }
  static SIMMIM_DEVICE int64_t row() { return global_thread() / kWarpSize; }
  static SIMMIM_DEVICE int64_t rows() { return global_threads() / kWarpSize; }
  template <class J>
  static SIMMIM_DEVICE float reduce(float v, const J& join, float) { return warp_reduce(v, join); }
};
struct BlockRow {
  static SIMMIM_DEVICE int first() { return threadIdx.x; }
  static SIMMIM_DEVICE int step() { return blockDim.x; }
  static SIMMIM_DEVICE int64_t row() { return blockIdx.x; }
  static SIMMIM_DEVICE int64_t rows() { return gridDim.x; }
  template <class J>
  static SIMMIM_DEVICE float reduce(float v, const J& join, float zero) {
    __shared__ float scratch[kWarpSize];
    return block_reduce(v, join, zero, scratch);
  }
};

template <class Lanes>
__global__ void softmax_rows(const float* x, float* y, int64_t rows, int64_t n) {
  for (int64_t row = Lanes::row(); row < rows; row += Lanes::rows()) {
    const float* from = x + row * n;
    float peak = -__builtin_inff();
    for (int64_t i = Lanes::first(); i < n; i += Lanes::step()) peak = Max{}(peak, from[i]);
    peak = Lanes::reduce(peak, Max{}, -__builtin_inff());
    float total = 0;
    for (int64_t i = Lanes::first(); i < n; i += Lanes::step()) total += expf(from[i] - peak);
    const float scale = 1.0f / Lanes::reduce(total, Sum{}, 0.0f);
    for (int64_t i = Lanes::first(); i < n; i += Lanes::step()) y[row * n + i] = expf(from[i] - peak) * scale;
  }
}

}  // namespace

void run(const Softmax& k, Stream& stream) {
  const int64_t rows = k.x.dim(0), n = k.x.dim(1);
  if (rows * n == 0) return;
  if (n <= 1024) return launch(stream, &softmax_rows<WarpRow>, grid_for(stream, rows * kWarpSize), k.x.f32(), k.y.f32(), rows, n);
  launch(stream, &softmax_rows<BlockRow>, grid_for(stream, rows * kThreads), k.x.f32(), k.y.f32(), rows, n);
}

}  // namespace simmim::cuda
