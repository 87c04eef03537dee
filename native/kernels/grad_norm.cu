#include "grad_norm.h"

#include "../cuda/launch.cuh"
#include "../cuda/reduce.cuh"
#include "../cuda/side.cuh"

namespace simmim::cuda {

namespace {

constexpr int kRun = 64;  // squares that a thread adds up in float before they go to a double

/// Sums of squares of blocks of GradNorm::kBlock values.
__global__ void sum_squares(const float* flat, int64_t n, int64_t blocks, bool several, double* sums) {
  __shared__ double scratch[kWarpSize];
  for (int64_t block = blockIdx.x; block < blocks; block += gridDim.x) {
    const int64_t begin = block * GradNorm::kBlock, end = begin + GradNorm::kBlock < n ? begin + GradNorm::kBlock : n;
    const int64_t step = several ? kMany : 1;
    double total = 0;
    for (int64_t i = begin + threadIdx.x * step; i < end;) {
      float part = 0;
      for (int run = 0; run < kRun && i < end; run += static_cast<int>(step), i += kThreads * step) {
        if (several) {
          const Many g = load_many(flat + i);
          for (int j = 0; j < kMany; j++) part = fmaf(g[j], g[j], part);
        } else {
          part = fmaf(flat[i], flat[i], part);
        }
      }
      total += static_cast<double>(part);
    }
    total = block_reduce(total, Sum{}, 0.0, scratch);
    if (threadIdx.x == 0) sums[block] = total;
  }
}

__global__ void root_of_sum(const double* sums, int64_t blocks, float* y) {
  __shared__ double scratch[kWarpSize];
  double total = 0;
  for (int64_t i = threadIdx.x; i < blocks; i += kThreads) total += sums[i];
  total = block_reduce(total, Sum{}, 0.0, scratch);
  if (threadIdx.x == 0) *y = static_cast<float>(sqrt(total));
}

struct Clip {
  float* flat;
  const float* norm;
  float clip;
  bool several;
  __device__ void operator()(int64_t i) const {
    const float factor = clip / (*norm + 1e-6f), scale = factor > 1 ? 1.0f : factor;
    if (!several) {
      flat[i] *= scale;
      return;
    }
    Many v = load_many(flat + kMany * i);
    for (int j = 0; j < kMany; j++) v[j] *= scale;
    store_many(flat + kMany * i, v);
  }
};

}  // namespace

void run(const GradNorm& k, Stream& stream) {
  const int64_t n = k.flat.count(), blocks = k.blocks(), most = static_cast<int64_t>(stream.multiprocessors) * 16;
  double* const sums = static_cast<double*>(k.workspace);
  if (blocks > 0) launch(stream, &sum_squares, Grid{dim3(static_cast<unsigned>(blocks < most ? blocks : most)), dim3(kThreads)}, k.flat.f32(), n, blocks, many_allowed(n, k.flat.data), sums);
  launch(stream, &root_of_sum, Grid{dim3(1), dim3(kThreads)}, sums, blocks, k.y.f32());
}

void run(const GradClip& k, Stream& stream) {
  const int64_t n = k.flat.count();
  const bool several = many_allowed(n, k.flat.data);
  for_each(stream, several ? n / kMany : n, Clip{k.flat.f32(), k.norm.f32(), k.clip, several});
}

}  // namespace simmim::cuda
