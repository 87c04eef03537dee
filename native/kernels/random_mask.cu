#include "random_mask.h"

#include "../core/rng.h"
#include "../cuda/launch.cuh"
#include "../cuda/reduce.cuh"

namespace simmim::cuda {

namespace {

struct Masks {
  const int32_t* clock;
  uint64_t* keys;
  float* y;
  int64_t batch, rows, columns, site, count, repeat;
};

/// One block per sample; the count-th smallest key is found bit by bit, as on the CPU, each pass a sum over the block.
__global__ void mask_samples(Masks k) {
  __shared__ int scratch[kWarpSize];
  const int64_t b = blockIdx.x, cells = k.rows * k.columns, width = k.columns * k.repeat;
  uint64_t* const keys = k.keys + b * cells;
  for (int64_t c = threadIdx.x; c < cells; c += kThreads) {
    const uint64_t index = static_cast<uint64_t>((k.clock[2] * k.batch + b) * cells + c);
    const PhiloxWords words = philox(static_cast<uint32_t>(k.clock[0]), static_cast<uint32_t>(k.site), static_cast<uint32_t>(k.clock[1]), index);
    keys[c] = static_cast<uint64_t>(words.w[0]) << 32 | static_cast<uint64_t>(c);
  }
  uint64_t last = 0;
  for (int bit = 63; k.count > 0 && bit >= 0; bit--) {
    const uint64_t candidate = last | uint64_t{1} << bit;
    int below = 0;
    for (int64_t c = threadIdx.x; c < cells; c += kThreads) below += keys[c] < candidate;
    if (block_reduce(below, Sum{}, 0, scratch) < k.count) last = candidate;
  }
  __syncthreads();  // the keys of other threads
  float* const y = k.y + b * k.rows * k.repeat * width;
  for (int64_t i = threadIdx.x; i < k.rows * k.repeat * width; i += kThreads)
    y[i] = k.count > 0 && keys[i / width / k.repeat * k.columns + i % width / k.repeat] <= last ? 1.0f : 0.0f;
}

}  // namespace

void run(const RandomMask& k, Stream& stream) {
  if (k.y.count() == 0) return;
  launch(stream, &mask_samples, Grid{dim3(static_cast<unsigned>(k.y.dim(0))), dim3(kThreads)},
         Masks{k.clock.i32(), static_cast<uint64_t*>(k.workspace), k.y.f32(), k.y.dim(0), k.rows(), k.columns(), k.site, k.count, k.repeat});
}

}  // namespace simmim::cuda
