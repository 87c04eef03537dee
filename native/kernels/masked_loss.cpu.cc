#include "masked_loss.h"

#include "../cpu/all_zero.h"
#include "../cpu/reduce.h"
#include "../cpu/stream.h"
#include "../cpu/thread_pool.h"

namespace simmim::SIMMIM_ISA {

/// The loss of residuals d = target - image.
template <LossKind kind>
static SIMMIM_INLINE Vec loss_of(Vec d, float beta) {
  if constexpr (kind == LossKind::l2) return d * d;
  const Vec magnitude = abs(d);
  if constexpr (kind == LossKind::l1) return magnitude;
  const Vec clipped = min(splat(beta), magnitude);  // beta first: NaN stays
  return clipped * (magnitude - 0.5f * clipped) / beta;
}
/// Its derivative in d; that of |d| at 0 is 0.
template <LossKind kind>
static SIMMIM_INLINE Vec slope_of(Vec d, float beta) {
  if constexpr (kind == LossKind::l2) return 2.0f * d;
  const Vec sign = select(d > 0.0f, splat(1.0f), select(d < 0.0f, splat(-1.0f), d));
  if constexpr (kind == LossKind::l1) return sign;
  return select(abs(d) < beta, d / beta, sign);
}

/// f<kind>(values of pred), of pred's element type.
template <class F>
static SIMMIM_INLINE void with_kind(int32_t kind, const Tensor& pred, const F& f) {
  with_floats(pred, [&](auto* values) {
    switch (static_cast<LossKind>(kind)) {
      case LossKind::l1: return f.template operator()<LossKind::l1>(values);
      case LossKind::l2: return f.template operator()<LossKind::l2>(values);
      case LossKind::smooth_l1: return f.template operator()<LossKind::smooth_l1>(values);
    }
  });
}

/// The extents of one call.
struct LossMap {
  int64_t h, w, planes, height, width, r, mask_rows, mask_columns;
  template <class K>
  explicit LossMap(const K& k)
      : h(k.pred.dim(1)), w(k.pred.dim(2)), planes(k.target.dim(1)), height(k.target.dim(2)), width(k.target.dim(3)), r(height / h),
        mask_rows(k.mask.dim(1)), mask_columns(k.mask.dim(2)) {}
};

enum class Hidden { none, some, all };

/// The mask of one row of pixels of a cell, spread into `pixels` [r]; `top`, `left`: its first pixel. How many are hidden.
static SIMMIM_INLINE Hidden spread_mask(const LossMap& g, const float* mask, int64_t b, int64_t top, int64_t left, float* pixels) {
  const int64_t patch = g.height / g.mask_rows;
  const float* m = mask + (b * g.mask_rows + top / patch) * g.mask_columns + left / patch;
  bool any = false, all = true;
  for (int64_t j = 0, end = patch - left % patch; j < g.r; m++, end += patch) {
    any = any || *m != 0;
    all = all && *m != 0;
    for (; j < g.r && j < end; j++) pixels[j] = *m;
  }
  return all ? Hidden::all : any ? Hidden::some : Hidden::none;
}

/// How many rows of a cell's pixels from row i on have the same mask, spread or not.
static SIMMIM_INLINE int64_t rows_alike(const LossMap& g, const float* mask, int64_t b, int64_t top, int64_t left, int64_t i) {
  const int64_t patch = g.height / g.mask_rows, first = left / patch, columns = (left + g.r - 1) / patch + 1 - first;
  const float* m = mask + (b * g.mask_rows + (top + i) / patch) * g.mask_columns + first;
  int64_t end = ((top + i) / patch + 1) * patch - top;
  for (const float* next = m + g.mask_columns; end < g.r && __builtin_memcmp(m, next, static_cast<size_t>(columns) * 4) == 0; next += g.mask_columns) end += patch;
  return (end < g.r ? end : g.r) - i;
}

/// f(feature offset, pixel offset, rows, weights, how many of them are not 0) for `rows` runs of r pixels each of cell row `row` that have one
/// mask and plane, r apart in pred and a line apart in target. In pred's order: a cell is one piece there, and the lines of its image
/// are few enough to be asked for ahead. `pixels` [r].
template <class F>
static SIMMIM_INLINE void for_runs(const LossMap& g, const float* mask, int64_t row, float* pixels, const F& f) {
  const int64_t b = row / g.h, top = row % g.h * g.r;
  for (int64_t x = 0; x < g.w; x++)
    for (int64_t i = 0, rows; i < g.r; i += rows) {
      rows = rows_alike(g, mask, b, top, x * g.r, i);
      const Hidden hidden = spread_mask(g, mask, b, top + i, x * g.r, pixels);
      for (int64_t c = 0; c < g.planes; c++) f((((row * g.w + x) * g.planes + c) * g.r + i) * g.r, ((b * g.planes + c) * g.height + top + i) * g.width + x * g.r, rows, pixels, hidden);
    }
}

/// Asks for the image's line eight rows on: lines of a cell lie too far apart for the processor to foresee them.
static SIMMIM_INLINE void read_soon(const LossMap& g, const float* target) { __builtin_prefetch(target + 8 * g.width); }

void run(const MaskedLoss& k) {
  const LossMap g(k);
  const int64_t rows = k.pred.dim(0) * g.h;
  double* sums = static_cast<double*>(k.workspace);
  float* pixels = reinterpret_cast<float*>(sums + rows);
  const float* target = k.target.f32();
  with_kind(k.kind, k.pred, [&]<LossKind kind>(const auto* pred) {
    parallel_for(rows, [&](int64_t row) {
      double total = 0;
      for_runs(g, k.mask.f32(), row, pixels + row * g.r, [&](int64_t feature, int64_t pixel, int64_t rows, const float* weights, Hidden hidden) {
        if (hidden == Hidden::none) return;
        Vec partial{};
        for (int64_t y = 0; y < rows; y++, feature += g.r, pixel += g.width)
          for_lanes(g.r, [&](int64_t j, int n) {
            const Vec m = load_lanes(weights + j, n);
            if (hidden == Hidden::some && all_zero(m)) return;
            if (j % 16 == 0) read_soon(g, target + pixel + j);
            partial = fma(loss_of<kind>(load_lanes(target + pixel + j, n) - load_lanes(pred + feature + j, n), k.beta), m, partial);
          });
        total += sum(partial);
      });
      sums[row] = total;
    });
  });
  double hidden = 0, total = 0;
  for (int64_t i = 0; i < k.mask.count(); i++) hidden += k.mask.f32()[i];
  for (int64_t row = 0; row < rows; row++) total += sums[row];
  const int64_t patch = g.height / g.mask_rows;
  const double scale = 1 / (hidden * static_cast<double>(patch * patch) + 1e-5) / static_cast<double>(g.planes);
  *k.scale.f32() = static_cast<float>(scale);
  *k.loss.f32() = static_cast<float>(total * scale);
}

/// Earlier than others: the linear layer's later reading of it from memory costs less than reading all lines to overwrite them (batch 8,
/// 3.4 MiB, one thread: .85 of the time).
constexpr size_t kStreamedGradient = kStreamedBytes / 4;

void run(const MaskedLossGrad& k) {
  const LossMap g(k);
  const float* target = k.target.f32();
  float* pixels = static_cast<float*>(k.workspace);
  const float factor = -*k.dy.f32() * *k.scale.f32();
  with_kind(k.kind, k.pred, [&]<LossKind kind>(auto* pred) {
    auto* dpred = static_cast<decltype(pred)>(k.dpred.data);
    bool streams = false;
    if constexpr (sizeof(*dpred) == 4) streams = k.dpred.bytes() > kStreamedGradient && can_stream(dpred, g.r);
    parallel_for(k.pred.dim(0) * g.h, [&](int64_t row) {
      for_runs(g, k.mask.f32(), row, pixels + row * g.r, [&](int64_t feature, int64_t pixel, int64_t rows, const float* weights, Hidden hidden) {
        for (int64_t y = 0; y < rows; y++, feature += g.r, pixel += g.width)
          for_lanes(g.r, [&](int64_t j, int n) {
            const Vec m = load_lanes(weights + j, n);
            Vec slope{};
            if (hidden == Hidden::all || (hidden == Hidden::some && !all_zero(m))) {
              if (j % 16 == 0) read_soon(g, target + pixel + j);
              slope = slope_of<kind>(load_lanes(target + pixel + j, n) - load_lanes(pred + feature + j, n), k.beta) * (m * factor);
            }
            if constexpr (sizeof(*dpred) == 4) {
              if (streams) return stream(dpred + feature + j, slope);
            }
            store_lanes(dpred + feature + j, slope, n);
          });
      });
      if (streams) end_streaming();
    });
  });
}

}  // namespace simmim::SIMMIM_ISA
