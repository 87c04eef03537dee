#include "bincount.h"

#include "../core/require.h"
#include "../cuda/bisect.cuh"
#include "../cuda/reduce.cuh"
#include "../cuda/rows.cuh"
#include "../cuda/sort.cuh"

namespace simmim::cuda {

namespace {

/// Whole numbers: their sums do not depend on the order, so they are added where they belong.
struct CountEach {
  const int32_t *x, *weights;
  int32_t* counts;
  int64_t n, bins;
  bool binary;
  __device__ void operator()(int64_t i) const {
    if (x[i] < 0 || x[i] >= bins) return;
    int32_t* bin = counts + i / n * bins + x[i];
    if (binary) *bin = 1;
    else atomicAdd(bin, weights ? weights[i] : 1);
  }
};

struct AsFloat {
  const int32_t* counts;
  float* y;
  __device__ void operator()(int64_t i) const { y[i] = static_cast<float>(counts[i]); }
};

/// Keys that sort the numbers by bin, and by place within a bin; those without a bin come last.
struct MakeKeys {
  const int32_t* x;
  uint64_t* keys;
  int64_t count, n, bins;
  __device__ void operator()(int64_t i) const {
    const bool is_in_bin = i < count && x[i] >= 0 && x[i] < bins;
    keys[i] = is_in_bin ? static_cast<uint64_t>(i / n * bins + x[i]) << 32 | static_cast<uint64_t>(i) : kLastKey;
  }
};

/// A warp for each bin adds its weights in their order.
struct SumBin {
  const uint64_t* keys;
  const float* weights;
  float* y;
  int64_t count;
  SIMMIM_DEVICE int64_t first_of(int64_t bin) const {
    return first_not(count, [&](int64_t i) { return keys[i] < static_cast<uint64_t>(bin) << 32; });
  }
  __device__ void operator()(int64_t bin) const {
    const int64_t begin = first_of(bin), end = first_of(bin + 1), lane = threadIdx.x % kWarpSize;
    float sum = 0;
    for (int64_t i = begin + lane; i < end; i += kWarpSize) sum += weights[keys[i] & 0xffffffffu];
    sum = warp_reduce(sum, Sum{});
    if (lane == 0) y[bin] = sum;
  }
};

}  // namespace

void run(const Bincount& k, Stream& stream) {
  const int64_t count = k.x.count(), n = k.x.dim(1), bins = k.y.dim(1);
  if (k.y.count() == 0) return;
  if (k.sums_floats()) {
    if (count >= int64_t{1} << 32 || k.y.count() >= int64_t{1} << 32) fail_as("unsupported", "%lld numbers in %lld bins, at most 2^32 of each are supported", static_cast<long long>(count), static_cast<long long>(k.y.count()));
    auto* keys = static_cast<uint64_t*>(k.workspace);
    const int64_t padded = power_of_two_from(count);
    for_each(stream, padded, MakeKeys{k.x.i32(), keys, count, n, bins});
    sort_rows(stream, keys, 1, padded);
    return for_each_row(stream, k.y.count(), SumBin{keys, k.weights.f32(), k.y.f32(), count});
  }
  const bool convert = k.y.dtype == DType::f32;
  int32_t* counts = convert ? static_cast<int32_t*>(k.workspace) : k.y.i32();
  SIMMIM_CUDA_CALL(cudaMemsetAsync(counts, 0, k.y.bytes(), stream.handle));
  for_each(stream, count, CountEach{k.x.i32(), k.weights.dtype == DType::i32 ? k.weights.i32() : nullptr, counts, n, bins, k.binary});
  if (convert) for_each(stream, k.y.count(), AsFloat{counts, k.y.f32()});
}

}  // namespace simmim::cuda
