#include "layer_norm.h"

#include "../cuda/gemm.h"
#include "../cuda/reduce.cuh"
#include "../cuda/rows.cuh"
#include "../cuda/side.cuh"

namespace simmim::cuda {

namespace {

/// A row in registers: kRuns runs of eight values per lane, lane by lane. Values beyond the row are 0.
template <int kRuns>
struct Row {
  Many v[kRuns];
  static SIMMIM_DEVICE int64_t at(int run) { return (run * kWarpSize + static_cast<int>(threadIdx.x % kWarpSize)) * int64_t{kMany}; }
  SIMMIM_DEVICE void load(const Side& from, int64_t start, int64_t n) {
    for (int r = 0; r < kRuns; r++) v[r] = at(r) < n ? load_many(from, start + at(r)) : Many{};
  }
};

/// Rows whose channels fit into the registers of a warp, eight neighbours in one access.
template <int kRuns>
struct NormalizeRow {
  Side x, residual, y;
  const float *gamma, *beta;
  float *mean, *rstd;
  int64_t n;
  float eps;
  __device__ void operator()(int64_t row) const {
    Row<kRuns> x_row;
    x_row.load(x, row * n, n);
    float total = 0;
    for (int r = 0; r < kRuns; r++)
      for (int j = 0; j < kMany; j++) total += x_row.v[r][j];
    const float m = warp_reduce(total, Sum{}) / static_cast<float>(n);
    float squares = 0;
    for (int r = 0; r < kRuns; r++)
      if (Row<kRuns>::at(r) < n)
        for (int j = 0; j < kMany; j++) squares += (x_row.v[r][j] - m) * (x_row.v[r][j] - m);
    const float scale = 1.0f / sqrtf(warp_reduce(squares, Sum{}) / static_cast<float>(n) + eps);
    for (int r = 0; r < kRuns; r++) {
      const int64_t at = Row<kRuns>::at(r);
      if (at >= n) break;
      const Many g = load_many(gamma + at), b = load_many(beta + at);
      for (int j = 0; j < kMany; j++) x_row.v[r][j] = fmaf((x_row.v[r][j] - m) * scale, g[j], b[j]);
      if (residual.data) {
        const Many around = load_many(residual, row * n + at);
        for (int j = 0; j < kMany; j++) x_row.v[r][j] += around[j];
      }
      store_many(y, row * n + at, x_row.v[r]);
    }
    if (threadIdx.x % kWarpSize != 0) return;
    if (mean) mean[row] = m;
    if (rstd) rstd[row] = scale;
  }
};

/// Any other row: value by value, read three times.
struct NormalizeAnyRow {
  Side x, residual, y;
  const float *gamma, *beta;
  float *mean, *rstd;
  int64_t n;
  float eps;
  __device__ void operator()(int64_t row) const {
    const int64_t lane = threadIdx.x % kWarpSize, start = row * n;
    float total = 0, squares = 0;
    for (int64_t i = lane; i < n; i += kWarpSize) total += load_one(x, start + i);
    const float m = warp_reduce(total, Sum{}) / static_cast<float>(n);
    for (int64_t i = lane; i < n; i += kWarpSize) {
      const float distance = load_one(x, start + i) - m;
      squares += distance * distance;
    }
    const float scale = 1.0f / sqrtf(warp_reduce(squares, Sum{}) / static_cast<float>(n) + eps);
    for (int64_t i = lane; i < n; i += kWarpSize) {
      const float normed = fmaf((load_one(x, start + i) - m) * scale, gamma[i], beta[i]);
      store_one(y, start + i, residual.data ? normed + load_one(residual, start + i) : normed);
    }
    if (lane != 0) return;
    if (mean) mean[row] = m;
    if (rstd) rstd[row] = scale;
  }
};

/// What the gradient reads and writes; `partials` [2, chunks, n] for dgamma and dbeta or null.
struct Gradient {
  Side dy, x, through, dx;
  const float *gamma, *mean, *rstd;
  float* partials;
  int64_t rows, n, chunk, chunks;
};

/// dx = through + rstd (g - mean(g) - h mean(g h)) with h = (x - mean) rstd and g = dy gamma. One block per chunk of rows: its warps
/// take rows in turn and keep their share of dgamma and dbeta in registers, which are added up warp by warp at the end.
template <int kRuns>
__global__ void __launch_bounds__(kThreads) gradient_rows(Gradient k) {
  const int warp = static_cast<int>(threadIdx.x / kWarpSize);
  constexpr int kWarps = kThreads / kWarpSize;
  const int64_t n = k.n, chunk = blockIdx.x, end = (chunk + 1) * k.chunk < k.rows ? (chunk + 1) * k.chunk : k.rows;
  Row<kRuns> gamma, dgamma{}, dbeta{};
  for (int r = 0; r < kRuns; r++) gamma.v[r] = Row<kRuns>::at(r) < n ? load_many(k.gamma + Row<kRuns>::at(r)) : Many{};
  for (int64_t row = chunk * k.chunk + warp; row < end; row += kWarps) {
    Row<kRuns> h, dy;
    h.load(k.x, row * n, n);
    dy.load(k.dy, row * n, n);
    const float mean = k.mean[row], rstd = k.rstd[row];
    float sum_g = 0, sum_gh = 0;
    for (int r = 0; r < kRuns; r++)
      for (int j = 0; j < kMany; j++) {
        h.v[r][j] = (h.v[r][j] - mean) * rstd;
        const float d = dy.v[r][j], g = d * gamma.v[r][j];
        sum_g += g;  // beyond the row gamma and dy are 0
        sum_gh = fmaf(g, h.v[r][j], sum_gh);
        dgamma.v[r][j] = fmaf(d, h.v[r][j], dgamma.v[r][j]);
        dbeta.v[r][j] += d;
      }
    const float mean_g = warp_reduce(sum_g, Sum{}) / static_cast<float>(n), mean_gh = warp_reduce(sum_gh, Sum{}) / static_cast<float>(n);
    for (int r = 0; r < kRuns; r++) {
      if (Row<kRuns>::at(r) >= n) break;
      for (int j = 0; j < kMany; j++) dy.v[r][j] = rstd * (dy.v[r][j] * gamma.v[r][j] - mean_g - h.v[r][j] * mean_gh);
      if (k.through.data) {
        const Many around = load_many(k.through, row * n + Row<kRuns>::at(r));
        for (int j = 0; j < kMany; j++) dy.v[r][j] += around[j];
      }
      store_many(k.dx, row * n + Row<kRuns>::at(r), dy.v[r]);
    }
  }
  if (!k.partials) return;
  float* sums = shared_memory<float>();  // [2, n]
  for (int turn = 0; turn < kWarps; turn++) {
    for (int r = 0; turn == warp && r < kRuns; r++)
      for (int j = 0; Row<kRuns>::at(r) < n && j < kMany; j++) {
        const int64_t at = Row<kRuns>::at(r) + j;
        sums[at] = dgamma.v[r][j] + (turn > 0 ? sums[at] : 0);
        sums[n + at] = dbeta.v[r][j] + (turn > 0 ? sums[n + at] : 0);
      }
    __syncthreads();
  }
  for (int64_t i = threadIdx.x; i < n; i += kThreads) {
    k.partials[chunk * n + i] = sums[i];
    k.partials[(k.chunks + chunk) * n + i] = sums[n + i];
  }
}

struct GradientAnyRow {
  Gradient k;
  __device__ void operator()(int64_t row) const {
    const int64_t lane = threadIdx.x % kWarpSize, start = row * k.n;
    const float mean = k.mean[row], rstd = k.rstd[row], count = static_cast<float>(k.n);
    float sum_g = 0, sum_gh = 0;
    for (int64_t i = lane; i < k.n; i += kWarpSize) {
      const float g = load_one(k.dy, start + i) * k.gamma[i];
      sum_g += g;
      sum_gh = fmaf(g, (load_one(k.x, start + i) - mean) * rstd, sum_gh);
    }
    const float mean_g = warp_reduce(sum_g, Sum{}) / count, mean_gh = warp_reduce(sum_gh, Sum{}) / count;
    for (int64_t i = lane; i < k.n; i += kWarpSize) {
      const float h = (load_one(k.x, start + i) - mean) * rstd;
      const float d = rstd * (load_one(k.dy, start + i) * k.gamma[i] - mean_g - h * mean_gh);
      store_one(k.dx, start + i, k.through.data ? d + load_one(k.through, start + i) : d);
    }
  }
};

/// dgamma and dbeta of one chunk and channel.
struct AnyColumn {
  Gradient k;
  __device__ void operator()(int64_t item) const {
    const int64_t chunk = item / k.n, i = item % k.n, end = (chunk + 1) * k.chunk < k.rows ? (chunk + 1) * k.chunk : k.rows;
    float dgamma = 0, dbeta = 0;
    for (int64_t row = chunk * k.chunk; row < end; row++) {
      const float d = load_one(k.dy, row * k.n + i);
      dgamma = fmaf(d, (load_one(k.x, row * k.n + i) - k.mean[row]) * k.rstd[row], dgamma);
      dbeta += d;
    }
    k.partials[item] = dgamma;
    k.partials[k.chunks * k.n + item] = dbeta;
  }
};

/// Runs of eight per lane that hold a row of n channels; 0 when it does not fit.
int runs_of(int64_t n, const void* x, const void* y, const void* gamma, const void* beta, const void* around) {
  if (!many_allowed(n, x, y, gamma, beta, around) || n > 4 * kWarpSize * kMany) return 0;
  return n <= kWarpSize * kMany ? 1 : n <= 2 * kWarpSize * kMany ? 2 : 4;
}

template <int kRuns>
void normalize(const LayerNorm& k, Stream& stream) {
  for_each_row(stream, k.rows(), NormalizeRow<kRuns>{side_of(k.x), side_of(k.residual), side_of(k.y), k.gamma.f32(), k.beta.f32(), k.mean.f32(), k.rstd.f32(), k.x.dim(-1), k.eps});
}

}  // namespace

void run(const LayerNorm& k, Stream& stream) {
  const int64_t n = k.x.dim(-1);
  switch (runs_of(n, k.x.data, k.y.data, k.gamma.data, k.beta.data, k.residual.data)) {
    case 1: return normalize<1>(k, stream);
    case 2: return normalize<2>(k, stream);
    case 4: return normalize<4>(k, stream);
  }
  for_each_row(stream, k.rows(), NormalizeAnyRow{side_of(k.x), side_of(k.residual), side_of(k.y), k.gamma.f32(), k.beta.f32(), k.mean.f32(), k.rstd.f32(), n, k.eps});
}

void run(const LayerNormGrad& k, Stream& stream) {
  const int64_t n = k.x.dim(-1), chunks = k.cuda_chunks();
  float* const partials = k.dgamma.present() ? static_cast<float*>(k.workspace) : nullptr;
  const Gradient g{side_of(k.dy), side_of(k.x), side_of(k.through), side_of(k.dx), k.gamma.f32(), k.mean.f32(), k.rstd.f32(), partials, k.rows(), n, k.cuda_chunk(), chunks};
  const int runs = chunks > 0 ? runs_of(n, k.x.data, k.dy.data, k.dx.data, k.gamma.data, k.through.data) : 0;
  if (runs > 0) {
    const auto kernel = runs == 1 ? &gradient_rows<1> : runs == 2 ? &gradient_rows<2> : &gradient_rows<4>;
    launch(stream, kernel, Grid{dim3(static_cast<unsigned>(chunks)), dim3(kThreads), static_cast<size_t>(n) * 8}, g);
  } else {
    for_each_row(stream, k.rows(), GradientAnyRow{g});
    if (partials) for_each(stream, chunks * n, AnyColumn{g});
  }
  if (!k.dgamma.present()) return;
  combine_row_sums(partials, chunks, n, k.dgamma.f32(), false, stream);
  combine_row_sums(partials + chunks * n, chunks, n, k.dbeta.f32(), false, stream);
}

}  // namespace simmim::cuda
