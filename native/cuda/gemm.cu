#include "gemm.h"

#include "../core/require.h"
#include "gelu.cuh"
#include "launch.cuh"
#include "products.h"
#include "side.cuh"

namespace simmim::cuda {

namespace {

/// v = from; v = GELU(v) if `gelu`; v *= GELU'(gelu_of); v += residual; c = v.
struct Finishing {
  Side from, c, gelu_of, residual;
  bool gelu;
  SIMMIM_DEVICE float finish(float v, float factor_of, float add) const {
    if (gelu) v = cuda::gelu(v);
    if (gelu_of.data) v *= gelu_derivative(factor_of);
    return residual.data ? v + add : v;
  }
};
__global__ void finish_kernel(Finishing f, int64_t packs, int64_t count) {
  for (int64_t i = global_thread(); i < packs; i += global_threads()) {
    Pack<kMany> v = load_many(f.from, kMany * i), factor{}, add{};
    if (f.gelu_of.data) factor = load_many(f.gelu_of, kMany * i);
    if (f.residual.data) add = load_many(f.residual, kMany * i);
    for (int j = 0; j < kMany; j++) v[j] = f.finish(v[j], factor[j], add[j]);
    store_many(f.c, kMany * i, v);
  }
  for (int64_t i = kMany * packs + global_thread(); i < count; i += global_threads())
    store_one(f.c, i, f.finish(load_one(f.from, i), f.gelu_of.data ? load_one(f.gelu_of, i) : 0, f.residual.data ? load_one(f.residual, i) : 0));
}
void finish(const Finishing& f, int64_t count, Stream& stream) {
  const int64_t packs = packs_allowed(f.from.data, f.c.data, f.gelu_of.data, f.residual.data) ? count / kMany : 0;
  if (count > 0) launch(stream, &finish_kernel, grid_for(stream, packs + count - kMany * packs), f, packs, count);
}

struct Narrow {
  const float* x;
  uint16_t* y;
  __device__ void operator()(int64_t i) const { y[i] = float_to_bf16(x[i]); }
};

/// The bias in the dtype of C, as cuBLASLt wants it.
const void* bias_like(const float* bias, int64_t n, DType dtype, Stream& stream) {
  if (!bias || dtype == DType::f32) return bias;
  if (static_cast<size_t>(n) * 2 > Products::kScratch) fail_as("unsupported", "a bias of %lld values beside a bf16 result, at most %zu are supported", (long long)n, Products::kScratch / 2);
  auto* narrow = static_cast<uint16_t*>(stream.products->scratch());
  for_each(stream, n, Narrow{bias, narrow});
  return narrow;
}

struct FillRows {
  Side to;
  const float* bias;
  int64_t n;
  __device__ void operator()(int64_t i) const { store_one(to, i, bias ? bias[i % n] : 0); }
};

Product product_of(const Gemm& g, const Side& to, Stream& stream) {
  Product p;
  p.m = g.m, p.n = g.n, p.k = g.k;
  p.operands = g.operands;
  p.a = g.a, p.lda = g.lda, p.transpose_a = g.transpose_a;
  p.b = g.b, p.ldb = g.ldb, p.transpose_b = g.transpose_b;
  p.c = to.data, p.ldc = g.ldc, p.result = to.dtype;
  p.bias = bias_like(g.bias, g.n, to.dtype, stream);
  return p;
}

/// op(A) op(B) + bias (+ addend) into `to`.
void multiply(const Gemm& g, const Side& to, const void* addend, Stream& stream) {
  if (g.k == 0) {  // nothing is summed
    if (!addend) return for_each(stream, g.m * g.n, FillRows{to, g.bias, g.n});
    if (addend != to.data) SIMMIM_CUDA_CALL(cudaMemcpyAsync(to.data, addend, static_cast<size_t>(g.m * g.n) * size_of(to.dtype), cudaMemcpyDeviceToDevice, stream.handle));
    return;
  }
  Product p = product_of(g, to, stream);
  p.addend = addend;
  stream.products->run(p, stream);
}

}  // namespace

void gemm(const Gemm& g, Stream& stream) {
  if (g.m * g.n == 0) return;
  const Side c{g.c, g.result};
  const bool only_adds = !g.pre.data && !g.gelu && !g.gelu_of.data;
  if (only_adds && (!g.residual.data || (g.residual.dtype == g.result && g.k > 0))) return multiply(g, c, g.accumulate ? g.c : g.residual.data, stream);
  const Side& first = g.pre.data ? g.pre : c;
  multiply(g, first, nullptr, stream);
  finish({first, c, g.gelu_of, g.residual, g.gelu}, g.m * g.n, stream);
}

void gemm_batch(const Gemm& g, int64_t batch, int64_t a_step, int64_t b_step, Stream& stream) {
  if (g.m * g.n * batch == 0) return;
  const Side c{g.c, g.result};
  if (g.k == 0) return for_each(stream, g.m * g.n * batch, FillRows{c, g.bias, g.n});
  Product p = product_of(g, c, stream);
  p.batch = batch;
  p.a_step = a_step, p.b_step = b_step, p.c_step = g.m * g.n;
  stream.products->run(p, stream);
}

void gelu_all(const Side& x, const Side& y, int64_t count, Stream& stream) { finish({x, y, {}, {}, true}, count, stream); }

namespace {

/// One thread per column of a chunk of rows.
struct ChunkSums {
  int64_t rows, n;
  Side dy, pre, dz;
  float* partials;
  __device__ void operator()(int64_t item) const {
    const int64_t j = item % n, chunk = item / n, begin = chunk * kRowChunk, end = begin + kRowChunk < rows ? begin + kRowChunk : rows;
    float sum = 0;
    for (int64_t i = begin; i < end; i++) {
      float g = load_one(dy, i * n + j);
      if (pre.data) g *= gelu_derivative(load_one(pre, i * n + j));
      if (dz.data) store_one(dz, i * n + j, g);
      sum += g;
    }
    if (partials) partials[item] = sum;
  }
};

constexpr int kColumns = 32, kGroups = 8;  // threads of a block: columns x groups of chunks

__global__ void combine_kernel(const float* partials, int64_t chunks, int64_t n, float* sums, bool accumulate) {
  __shared__ float totals[kGroups][kColumns];
  for (int64_t j0 = static_cast<int64_t>(blockIdx.x) * kColumns; j0 < n; j0 += static_cast<int64_t>(gridDim.x) * kColumns) {
    const int64_t j = j0 + threadIdx.x;
    float sum = 0;
    if (j < n)
      for (int64_t c = threadIdx.y; c < chunks; c += kGroups) sum += partials[c * n + j];
    __syncthreads();
    totals[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && j < n) {
      float total = 0;
      for (int g = 0; g < kGroups; g++) total += totals[g][threadIdx.x];
      sums[j] = accumulate ? sums[j] + total : total;
    }
  }
}

}  // namespace

void activation_and_row_sums(int64_t rows, int64_t n, const Side& dy, const Side& pre, const Side& dz, float* partials, Stream& stream) {
  for_each(stream, row_chunks(rows) * n, ChunkSums{rows, n, dy, pre, dz, partials});
}

void combine_row_sums(const float* partials, int64_t chunks, int64_t n, float* sums, bool accumulate, Stream& stream) {
  if (n == 0) return;
  const int64_t blocks = (n + kColumns - 1) / kColumns, most = static_cast<int64_t>(stream.multiprocessors) * 8;
  launch(stream, &combine_kernel, Grid{dim3(static_cast<unsigned>(blocks < most ? blocks : most)), dim3(kColumns, kGroups)}, partials, chunks, n, sums, accumulate);
}

}  // namespace simmim::cuda
