#include "masked_loss.h"

#include "../cuda/divide.cuh"
#include "../cuda/reduce.cuh"
#include "../cuda/rows.cuh"
#include "../cuda/side.cuh"

namespace simmim::cuda {

namespace {

/// The loss of a residual d = target - image.
SIMMIM_DEVICE float loss_of(LossKind kind, float d, float beta) {
  if (kind == LossKind::l2) return d * d;
  const float magnitude = fabsf(d);
  if (kind == LossKind::l1) return magnitude;
  const float clipped = magnitude < beta || magnitude != magnitude ? magnitude : beta;  // NaN stays
  return clipped * (magnitude - 0.5f * clipped) / beta;
}
/// Its derivative in d; that of |d| at 0 is 0.
SIMMIM_DEVICE float slope_of(LossKind kind, float d, float beta) {
  if (kind == LossKind::l2) return 2.0f * d;
  const float sign = d > 0 ? 1.0f : d < 0 ? -1.0f : d;
  return kind == LossKind::smooth_l1 && fabsf(d) < beta ? d / beta : sign;
}

/// One call's tensors, as rows of pixels (b, plane, y).
struct Pixels {
  Side pred, target;
  const float* mask;
  int64_t h, w, planes, height, width, r, patch, mask_rows, mask_columns;
  Divisor cell, patches;
  LossKind kind;
  float beta;
  template <class K>
  explicit Pixels(const K& k)
      : pred(side_of(k.pred)), target(side_of(k.target)), mask(k.mask.f32()), h(k.pred.dim(1)), w(k.pred.dim(2)), planes(k.target.dim(1)), height(k.target.dim(2)), width(k.target.dim(3)), r(height / h),
        patch(height / k.mask.dim(1)), mask_rows(k.mask.dim(1)), mask_columns(k.mask.dim(2)), cell(static_cast<uint32_t>(r)), patches(static_cast<uint32_t>(patch)), kind(static_cast<LossKind>(k.kind)), beta(k.beta) {}

  /// f(place in pred, place in target, mask) for the pixels of a row that fall to this lane.
  template <class F>
  SIMMIM_DEVICE void each_of(int64_t row, const F& f) const {
    const int64_t y = row % height, b = row / height / planes, plane = row / height % planes;
    const float* const m = mask + (b * mask_rows + y / patch) * mask_columns;
    const int64_t features = planes * r * r, line = (b * h + y / r) * w, offset = (plane * r + y % r) * r;
    for (uint32_t x = threadIdx.x % kWarpSize; x < width; x += kWarpSize) {
      const uint32_t column = cell.quotient(x);
      f((line + column) * features + offset + (x - column * r), row * width + x, m[patches.quotient(x)]);
    }
  }
  SIMMIM_DEVICE float residual(int64_t feature, int64_t pixel) const { return load_one(target, pixel) - load_one(pred, feature); }
};

/// Sums of the losses and (over the first plane) of the mask of each block of rows; a warp takes rows in turn.
__global__ void sum_losses(Pixels k, int64_t rows, double* losses, double* hidden) {
  __shared__ double scratch[kWarpSize];
  const int64_t first = blockIdx.x * MaskedLoss::kCudaRows, end = first + MaskedLoss::kCudaRows < rows ? first + MaskedLoss::kCudaRows : rows;
  double total = 0, masked = 0;
  for (int64_t row = first + threadIdx.x / kWarpSize; row < end; row += kThreads / kWarpSize) {
    const bool counts = row / k.height % k.planes == 0;
    float part = 0, ones = 0;
    k.each_of(row, [&](int64_t feature, int64_t pixel, float m) {
      ones += m;
      if (m != 0) part = fmaf(loss_of(k.kind, k.residual(feature, pixel), k.beta), m, part);
    });
    total += static_cast<double>(part);
    if (counts) masked += static_cast<double>(ones);
  }
  total = block_reduce(total, Sum{}, 0.0, scratch);
  masked = block_reduce(masked, Sum{}, 0.0, scratch);
  if (threadIdx.x != 0) return;
  losses[blockIdx.x] = total;
  hidden[blockIdx.x] = masked;
}

__global__ void combine_losses(const double* losses, const double* hidden, int64_t blocks, int64_t planes, float* loss, float* scale) {
  __shared__ double scratch[kWarpSize];
  double total = 0, masked = 0;
  for (int64_t i = threadIdx.x; i < blocks; i += kThreads) {
    total += losses[i];
    masked += hidden[i];
  }
  total = block_reduce(total, Sum{}, 0.0, scratch);
  masked = block_reduce(masked, Sum{}, 0.0, scratch);
  if (threadIdx.x != 0) return;
  const double factor = 1 / (masked + 1e-5) / static_cast<double>(planes);
  *scale = static_cast<float>(factor);
  *loss = static_cast<float>(total * factor);
}

struct GradientRow {
  Pixels k;
  Side dpred;
  const float *dy, *scale;
  __device__ void operator()(int64_t row) const {
    const float factor = -*dy * *scale;
    k.each_of(row, [&](int64_t feature, int64_t pixel, float m) {
      store_one(dpred, feature, m == 0 ? 0.0f : slope_of(k.kind, k.residual(feature, pixel), k.beta) * (m * factor));
    });
  }
};

}  // namespace

void run(const MaskedLoss& k, Stream& stream) {
  const int64_t blocks = k.cuda_blocks();
  double *const losses = static_cast<double*>(k.workspace), *const hidden = losses + blocks;
  launch(stream, &sum_losses, Grid{dim3(static_cast<unsigned>(blocks)), dim3(kThreads)}, Pixels(k), k.target.shape.span(0, 3), losses, hidden);
  launch(stream, &combine_losses, Grid{dim3(1), dim3(kThreads)}, losses, hidden, blocks, k.target.dim(1), k.loss.f32(), k.scale.f32());
}

void run(const MaskedLossGrad& k, Stream& stream) {
  for_each_row(stream, k.target.shape.span(0, 3), GradientRow{Pixels(k), side_of(k.dpred), k.dy.f32(), k.scale.f32()});
}

}  // namespace simmim::cuda
